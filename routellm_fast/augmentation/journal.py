"""The journal of a judging run: append-only JSON lines, one a finished call, from which a run goes on.

A line is handed to the operating system as soon as its call is answered, so that it outlives the process; it is synced
to the disk in batches, so that a power cut loses at most the last second of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from routellm_fast.augmentation.ledger import FORMAT_VERSION, Ledger
from routellm_fast.errors import DataError

_FIRST_BYTES: Final = b'{"record": "settings"'
_SYNC_RECORDS: Final = 16
_SYNC_S: Final = 1.0


class Journal:
    """An open journal, which no other process can open for writing. Use as a context manager."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Open a journal or begin one; a last line that was torn by a crash is cut off.

        Args:
            path: The file.
            settings: What makes judgements comparable: mode, judge, template. A journal holds those of one kind.
            monotonic: Seconds since some moment; decides when to sync.

        Raises:
            DataError: It cannot be opened, is in use, is damaged, is no journal, or one with other settings.
        """
        self.path = path
        self._monotonic = monotonic
        self._unsynced = 0
        self._synced_s = monotonic()
        try:
            self._file: BinaryIO = path.open("a+b", buffering=0)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            self._lock()
            self.ledger, whole_bytes, torn = _read(path, self._file)
            self.repaired_bytes = len(torn)
            if torn:
                self._file.truncate(whole_bytes)
            wanted = {"format_version": FORMAT_VERSION, **settings}
            if not self.ledger.settings:
                self.append({"record": "settings", **wanted})
                self._sync()
                _sync_folder(path.parent)
            _check_settings(path, self.ledger.settings, wanted)
        except OSError as error:
            self._file.close()
            raise _unusable(path, error) from error
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record to the file and to the ledger. Raises DataError where it cannot be written."""
        line = json.dumps(record).encode() + b"\n"
        before = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._unsynced += 1
            if self._unsynced >= _SYNC_RECORDS or self._monotonic() - self._synced_s >= _SYNC_S:
                self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise DataError(
                f"{self.path} cannot be written ({error.strerror or error}). What it held is kept: make room and run "
                "the same command again"
            ) from error
        self.ledger.apply(record)

    def close(self) -> None:
        """Sync to the disk and let others in."""
        if not self._file.closed:
            with contextlib.suppress(OSError):
                self._sync()
            self._file.close()

    def __enter__(self) -> Journal:
        """Return this journal; leaving closes it."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{self.path} is in use by another process: wait for it, or give another journal"
            ) from error

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_s = 0, self._monotonic()


def read_journal(path: Path) -> Ledger:
    """Read a journal, also while another process writes it. Raises DataError where it is damaged or is no journal."""
    try:
        with path.open("rb") as file:
            ledger, _, _ = _read(path, file)
    except OSError as error:
        raise _unusable(path, error) from error
    if not ledger.settings:
        raise DataError(f"{path} is empty: nothing was judged")
    return ledger


def _read(path: Path, file: BinaryIO) -> tuple[Ledger, int, bytes]:
    """Return the ledger, the length of all whole lines, and what stands behind them."""
    ledger, whole_bytes = Ledger(), 0
    file.seek(0)
    # Only a journal is ever repaired, never a file that was named by mistake.
    begin = file.read(len(_FIRST_BYTES))
    if not _FIRST_BYTES.startswith(begin):
        raise DataError(f"{path} is no journal of judgements: give a new file, or one that an earlier run made")
    file.seek(0)
    for number, line in enumerate(_lines(file), start=1):
        if not line.endswith(b"\n"):
            return ledger, whole_bytes, line
        try:
            ledger.apply(json.loads(line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}: damaged ({type(error).__name__}: {error}). Cut that line out to go on"
            ) from error
        whole_bytes += len(line)
    return ledger, whole_bytes, b""


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # The writing end is not buffered; reading it line by line would take a system call a byte.
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        buffered.seek(0)
        yield from buffered


def _check_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key in sorted({*found, *wanted}):
        if found.get(key) != wanted.get(key):
            raise DataError(
                f"{path} holds judgements with {key.replace('_', ' ')} {found.get(key)!r}, not {wanted.get(key)!r}, "
                "and they cannot be mixed: give another journal"
            )


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unusable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be used as a journal ({error.strerror or error})")
