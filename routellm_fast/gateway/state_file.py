"""An SQLite file that worker processes share; a thread writes it, so that no request waits for the disk."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import DataError

_LOGGER: Final = logging.getLogger(__name__)
_FORMAT: Final = 1
# How long what is to be written is gathered: as much may be lost when the process is killed.
_EVERY_S: Final = 0.25
_AFTER_FAILURE_S: Final = 2.0
_WRITE_TIMEOUT_S: Final = 10.0


class StateFile:
    """A file in SQLite's write-ahead mode: reading waits for nobody, and writers take turns.

    What a committed transaction wrote outlives the death of the process (not always a power cut). A disk that fails is
    an error in the log, once, and trying goes on: the gateway answers requests without it. It must lie on a local disk,
    since the workers share memory through it. Made in the process that uses it: it is not handed over a fork.
    """

    def __init__(self, path: Path, schema: Sequence[str], save: Callable[[sqlite3.Connection], None]) -> None:
        """Open or create the file, and start the thread.

        Args:
            path: The file; its folder is made if it is missing.
            schema: Statements that make the tables where they do not exist.
            save: Writes what there is to write, in a `transaction`; where it raises sqlite3.Error, it is called again
                later and finds the same and more to write. Called by one thread at a time, never in `read`.

        Raises:
            DataError: The file cannot be opened, is none of SQLite's, or was written by a newer version.
        """
        self._path, self._save = path, save
        self._mutex = threading.Lock()  # held while writing
        self._wanted, self._closing = threading.Event(), threading.Event()
        self._is_failing = self._cannot_read = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _connected(path, schema)
            # A read that would have to wait, as while the file is mended after a crash, finds nothing instead.
            self._reader = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{path} cannot be used to keep state: {error}. Name a folder on a local disk that can be written to "
                "by state_dir, or remove the file: what it kept is then forgotten"
            ) from error
        self._thread = threading.Thread(target=self._work, name=f"state {path.name}", daemon=True)
        self._thread.start()

    def read(self, query: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """Return the first row of a query, in some 20 µs where it has an index; None where there is none.

        For one thread at a time.
        """
        try:
            row: tuple[Any, ...] | None = self._reader.execute(query, values).fetchone()
        except sqlite3.Error as error:
            if not self._cannot_read:
                _LOGGER.error("%s cannot be read, and counts as empty: %s", self._path, error)
            self._cannot_read = True
            return None
        self._cannot_read = False
        return row

    def wake(self) -> None:
        """Let the thread save within a moment. Takes under a microsecond where it was woken already."""
        if not self._wanted.is_set():
            self._wanted.set()

    def flush(self) -> bool:
        """Save now, in this thread; return whether it could be."""
        with self._mutex:
            try:
                self._save(self._writer)
            except sqlite3.Error as error:
                if not self._is_failing:
                    _LOGGER.error("%s cannot be written, which is tried again and again: %s", self._path, error)
                self._is_failing = True
                return False
            if self._is_failing:
                _LOGGER.warning("%s can be written again", self._path)
            self._is_failing = False
            return True

    def close(self) -> None:
        """Save, end the thread and close the file. Calling it again does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wanted.set()
        self._thread.join()
        self.flush()
        self._reader.close()
        self._writer.close()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            if self._closing.wait(_EVERY_S):
                return
            self._wanted.clear()
            if not self.flush():
                self._closing.wait(_AFTER_FAILURE_S)
                self._wanted.set()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written within it is written, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _connected(path: Path, schema: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WRITE_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _begin_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        with transaction(connection):
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > _FORMAT:
                raise sqlite3.DatabaseError(f"a newer version of this program wrote it, in format {found}")
            for statement in schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_log(connection: sqlite3.Connection) -> None:
    """Go over to the write-ahead mode, for which SQLite itself does not wait where another process does the same."""
    give_up_s = time.monotonic() + _WRITE_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # noqa: PERF203 - few rounds
            if time.monotonic() >= give_up_s:
                raise
            time.sleep(0.01)
