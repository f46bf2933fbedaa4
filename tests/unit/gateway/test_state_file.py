from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from routellm_fast.errors import DataError
from routellm_fast.gateway.state_file import StateFile, transaction

SCHEMA = ("CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL)",)
ADD = "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n"


class Counts:
    """Counts names in a state file."""

    def __init__(self, path: Path) -> None:
        self.waiting: list[str] = []
        self.saved = threading.Event()
        self.fails = False
        self.file = StateFile(path, SCHEMA, self.save)

    def save(self, connection: sqlite3.Connection) -> None:
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        names = list(self.waiting)
        with transaction(connection):
            connection.executemany(ADD, [(name, 1) for name in names])
        del self.waiting[: len(names)]
        self.saved.set()

    def count(self, name: str) -> int:
        row = self.file.read("SELECT n FROM counts WHERE name = ?", (name,))
        return 0 if row is None else row[0]


def test_the_thread_saves_what_it_is_woken_for(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "deep" / "state.sqlite3")
    counts.waiting += ["a", "b", "a"]
    counts.file.wake()
    assert counts.saved.wait(60.0)
    assert (counts.count("a"), counts.count("b"), counts.count("c")) == (2, 1, 0)
    counts.file.close()


def test_closing_saves_and_may_be_done_twice(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    counts = Counts(path)
    counts.waiting.append("a")
    counts.file.close()
    counts.file.close()
    again = Counts(path)
    assert again.count("a") == 1
    again.file.close()


def test_a_disk_that_fails_is_said_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = Counts(tmp_path / "state.sqlite3")
    counts.fails = True
    counts.waiting.append("a")
    with caplog.at_level(logging.WARNING):
        assert not counts.file.flush()
        assert not counts.file.flush()
        counts.fails = False
        assert counts.file.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "disk I/O error" in caplog.text
    assert counts.count("a") == 1
    counts.file.close()


def test_the_thread_goes_on_after_a_failure(tmp_path: Path) -> None:
    counts = Counts(tmp_path / "state.sqlite3")
    counts.fails = True
    counts.waiting.append("a")
    assert not counts.file.flush()
    counts.file.wake()
    counts.fails = False
    assert counts.saved.wait(60.0)
    counts.file.close()


def test_what_was_begun_is_undone_where_it_fails(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x", isolation_level=None)
    connection.execute(SCHEMA[0])
    with pytest.raises(sqlite3.OperationalError), transaction(connection):
        connection.executemany("INSERT INTO counts SELECT ?, json_extract('[1]', ?)", [("a", "$[0]"), ("b", "no path")])
    assert connection.execute("SELECT count(*) FROM counts").fetchone() == (0,)
    connection.close()


def test_reading_finds_nothing_where_the_table_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.sqlite3"
    counts = Counts(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("DROP TABLE counts")
    other.close()
    assert counts.count("a") == counts.count("a") == 0
    assert caplog.text.count("cannot be read") == 1
    counts.file.close()


def test_what_is_no_state_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.write_text("precious text, which is no database at all\n" * 50)
    with pytest.raises(DataError, match=r"state\.sqlite3 cannot be used to keep state: .*not a database.*state_dir"):
        Counts(path)
    assert path.read_text().startswith("precious")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used to keep state"):
        Counts(tmp_path / "file" / "state.sqlite3")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(DataError, match="a newer version of this program wrote it, in format 2"):
        Counts(path)


def test_many_processes_open_and_add_at_once(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from tests.unit.gateway.test_state_file import Counts
        counts = Counts(Path(sys.argv[1]))
        for _ in range(50):
            counts.waiting.append("a")
            assert counts.file.flush()
        counts.file.close()
    """)
    root = str(Path(__file__).parents[3])
    path = tmp_path / "state.sqlite3"
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path), root]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    counts = Counts(path)
    assert counts.count("a") == 200
    counts.file.close()
