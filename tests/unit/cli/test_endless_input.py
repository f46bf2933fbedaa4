"""Lines without end, and lines of text and JSON that no program should trip over."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from routellm_fast import tables
from routellm_fast.cli import _prompts, main
from routellm_fast.cli._prompts import PipedLines, PromptFormat, read_prompts
from routellm_fast.errors import DataError
from routellm_fast.evaluation.streaming import rows as log_rows
from routellm_fast.tables import LeftOut, read_table, usable
from tests.support.builders import mf_router
from tests.support.processes import assert_refused, without_progress

POOL = ("--models", "strong-model=2", "--models", "weak-model=1")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of more than a thousand characters are too long, so that tests are not long."""
    for module in (tables, _prompts, log_rows):
        monkeypatch.setattr(module, "MAX_LINE_CHARACTERS", 1000)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("endless") / "router"
    mf_router().save(place)
    return place


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this machine has no /dev/zero")
@pytest.mark.parametrize("command", ["route --jsonl", "rank", "calibrate"])
def test_a_line_without_end_is_refused_in_bounded_memory(router: Path, command: str) -> None:
    arguments = command.split()
    arguments += [str(router), "-"] if command == "calibrate" else ["--router", str(router)]
    arguments += POOL if command == "rank" else []
    with subprocess.Popen(["sh", "-c", "echo hello; yes | tr -d '\\n'"], stdout=subprocess.PIPE) as endless:
        run = subprocess.run(
            [sys.executable, "-m", "routellm_fast", *arguments],
            stdin=endless.stdout,
            capture_output=True,
            text=True,
            timeout=300,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
        )
        endless.kill()
    run.stderr = without_progress(run.stderr)
    assert_refused(run, "standard input, line 2: no line end within 67,108,864 characters", "a line of its own")


def test_a_pipe_s_line_without_end_is_named_by_its_number(short: None) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\n" + b"x" * 2000)
    os.close(writer)
    with os.fdopen(reader), pytest.raises(DataError, match="standard input, line 3: no line end within"):
        list(PipedLines(reader))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv", "p.jsonl.gz"])
def test_a_file_s_line_without_end_is_named_by_its_number(short: None, tmp_path: Path, name: str) -> None:
    content = b'{"prompt": "a"}\n' + b"x" * 2000
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=f"{name}, line 2: no line end within"):
        list(read_prompts([], tmp_path / name, PromptFormat.AUTO, left_out=LeftOut()))


def test_a_line_as_long_as_allowed_is_read(short: None, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("x" * 999 + "\n" + "y" * 999)
    assert len(list(read_prompts([], tmp_path / "p.txt", PromptFormat.AUTO))) == 2


def test_a_log_s_line_without_end_is_named_by_its_number(short: None, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"prompt": "a", "large": 1, "small": 0}) + "\n" + "x" * 3000)
    with pytest.raises(DataError, match="log.jsonl, line 2: no line end within"):
        list(log_rows._json_rows(log_rows.LogPart(tmp_path / "log.jsonl", 0, None), lambda error: None))


def test_rows_that_cannot_be_read_take_no_memory() -> None:
    """A pipe may bring nothing else for hours."""

    def refuse(number: int) -> int:
        if number < 100_000:
            raise DataError(f"row {number}")
        return number

    left_out = LeftOut()
    assert list(usable(range(100_001), refuse, left_out)) == [100_000]
    assert (left_out.rows, len(left_out.named), left_out.named[0]) == (100_000, 10, "row 0")
    with pytest.raises(DataError, match="row 0. None of the 50 rows can be read"):
        list(usable(range(50), refuse, LeftOut()))


def _deep(levels: int) -> str:
    return f'{{"prompt": "a", "id": {"[" * levels}{"]" * levels}}}'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (_deep(100_000), "nested too deeply"),
        (f'{{"prompt": "a", "id": {"9" * 5000}}}', "digits"),
        ('{"prompt": "a", "prompt": "b"}', "has the key 'prompt' twice"),
        ('{"messages": [{"role": "user", "role": "system", "content": "a"}]}', "has the key 'role' twice"),
        ('{"prompt": "a", "id": NaN}', "'id' must be a JSON value without NaN"),
        ('{"prompt": "a", "id": [1e999]}', "'id' must be a JSON value without NaN"),
    ],
    ids=["deep", "digits", "twice", "twice within", "nan", "infinite"],
)
@pytest.mark.parametrize("form", ["auto", "jsonl"])
def test_json_that_cannot_be_taken_is_left_out_by_name(
    router: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, words: str, form: str
) -> None:
    path = tmp_path / "p.txt"
    path.write_text(f'{{"prompt": "good"}}\n{line}\n')
    assert main(["route", "--router", str(router), "--file", str(path), "--format", form, "--jsonl"]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["prompt"] for line in captured.out.splitlines()] == ["good"]
    assert f"left out: {path}, line 2:" in captured.err
    assert words in captured.err


def test_a_deep_id_comes_back_or_is_refused(router: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(_deep(levels) for levels in range(0, 1200, 30)))
    assert main(["route", "--router", str(router), "--file", str(path), "--jsonl"]) == 0
    captured = capsys.readouterr()
    assert 0 < len(captured.out.splitlines()) < 40


def test_text_that_begins_with_a_brace_is_a_prompt_still(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("{x} is a set\n")
    assert [prompt.text for prompt in read_prompts([], tmp_path / "p.txt", PromptFormat.AUTO)] == ["{x} is a set"]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ('prompt,x\na,1\n"never closed,2\nb,3\n', 3, "a quote that opens a cell of this row is never closed"),
        ('prompt,x\na,1\n"closed" and more,2\n', 3, "text follows the quote that closes a cell of this row"),
    ],
)
def test_a_bad_quote_is_named_with_its_line(tmp_path: Path, content: str, line: int, words: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError) as found:
        list(read_table(tmp_path / "t.csv"))
    assert f"t.csv, line {line}: not valid CSV" in str(found.value)
    assert words in str(found.value)


def test_a_cell_that_is_too_long_is_named(short: None, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('prompt,x\n"' + "line\n" * 500 + '",1\n')
    before = csv.field_size_limit(1000)
    try:
        with pytest.raises(DataError, match=r"line 2: .*a cell of this row has more than 1,000 characters"):
            list(read_table(tmp_path / "t.csv"))
    finally:
        csv.field_size_limit(before)


def test_a_table_of_many_columns_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], router: Path) -> None:
    names = [f"column {number}" for number in range(100_000)]
    (tmp_path / "t.csv").write_text(",".join(["prompt", *names]) + "\n" + ",".join(["a", *("1" * 100_000)]) + "\n")
    (row,) = read_table(tmp_path / "t.csv")
    assert len(row.values) == 100_001
    (tmp_path / "u.csv").write_text(",".join(names) + "\n" + ",".join("1" * 100_000) + "\n")
    assert main(["route", "--router", str(router), "--file", str(tmp_path / "u.csv")]) == 2
    assert len(capsys.readouterr().err) < 6_000


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"h\0e\0l\0l\0o\0", "is UTF-16"),
        (b"\0h\0e\0l", "is UTF-16"),
        (b"\xff\xfeh\0e\0", "is UTF-16"),
        (b"\xff\xfe\0\0h\0\0\0", "is UTF-32"),
        (b"\0\0\0\0abc\n", "has a NUL byte among its first 4, so it is no text in UTF-8"),
        (b"ab\0\0abc\n", "has a NUL byte among its first 4, so it is no text in UTF-8"),
    ],
)
def test_a_nul_byte_is_called_what_it_is(tmp_path: Path, start: bytes, words: str) -> None:
    for name in ("t.csv", "t.txt"):
        (tmp_path / name).write_bytes(start)
        with pytest.raises(DataError, match=words):
            list(read_prompts([], tmp_path / name, PromptFormat.AUTO))
