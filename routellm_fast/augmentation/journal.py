"""The journal of a run that asks models: append-only JSON lines, from which a run goes on.

What a request may cost is written before the request is sent, and what became of it as soon as that is known: an answer
before anything else is done with it. Both are handed to the operating system at once, so they outlive the process
however it ends. `Budget` also has reservations of money on the disk before their requests are sent, so a power cut
loses no money either; of other lines it loses at most those of the last second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from routellm_fast.augmentation.journal_lines import MAX_LINE_BYTES, begun_line, line_of, record_of
from routellm_fast.augmentation.ledger import ANSWERS, FIRST_FORMAT_VERSION, FORMAT_VERSION, Ledger
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
            settings: What makes judgements comparable: mode, judge, template. A journal that began with a judge holds
                those of one kind. With ledger.ANSWERS_SETTINGS no judge is asked: any journal is taken, and one that
                begins so takes any judges later, one after another.
            monotonic: Seconds since some moment; decides when to sync.

        Raises:
            DataError: It cannot be opened, is in use, is damaged, is no journal, or one with other settings.
        """
        self.path = path
        self._place = path.absolute()
        self._monotonic = monotonic
        self._unsynced = 0
        self._synced_s = monotonic()
        try:
            _check_regular(path)
            self._file: BinaryIO = path.open("a+b", buffering=0)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            self._lock()
            read = _read(path, self._file)
            self.ledger, self.repaired_bytes = read.ledger, read.torn_bytes
            self._size = read.whole_bytes
            if os.fstat(self._file.fileno()).st_size != self._size:
                self._file.truncate(self._size)
            if read.lacks_newline:
                self._write(b"\n")
            wanted = {"format_version": FORMAT_VERSION, **settings}
            if not self.ledger.settings:
                self.append({"record": "settings", **wanted})
                self.sync()
                _sync_folder(path.parent)
            asks_judge = settings["mode"] != ANSWERS
            is_other = asks_judge and _first_difference(self.ledger.settings, wanted) is not None
            if is_other and not self.ledger.began_with_answers:
                raise _other_settings(path, self.ledger.settings, wanted)
            if self.ledger.settings["format_version"] < FORMAT_VERSION:
                self.append({"record": "format", "format_version": FORMAT_VERSION})
            if is_other:
                self.append({"record": "judge", **settings})
        except OSError as error:
            self._file.close()
            raise _unusable(path, error) from error
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Hand a record to the operating system, and add it to the ledger.

        Raises:
            DataError: It cannot be written, or something else has changed, moved or removed the file.
        """
        try:
            line = line_of(record)
        except ValueError as error:
            raise DataError(f"{self.path} cannot hold {error}: leave out the row with so long a text") from error
        try:
            self._write(line)
            self.ledger.apply(record)
            self._unsynced += 1
            if self._unsynced >= _SYNC_RECORDS or self._monotonic() - self._synced_s >= _SYNC_S:
                self.sync()
        except OSError as error:
            raise self.unwritable(error) from error

    def sync(self) -> None:
        """Have all that was appended before on the disk. Any thread may call this. Raises OSError."""
        self._unsynced, self._synced_s = 0, self._monotonic()
        os.fsync(self._file.fileno())

    def unwritable(self, error: OSError) -> DataError:
        """Return what a failure to write or to sync means, and what to do."""
        return DataError(
            f"{self.path} cannot be written ({error.strerror or error}). What it held is kept: make room and run the "
            "same command again"
        )

    def close(self) -> None:
        """Sync to the disk and let others in. Raises DataError where the disk does not take what was written."""
        if self._file.closed:
            return
        try:
            self.sync()
        except OSError as error:
            raise self.unwritable(error) from error
        finally:
            self._file.close()

    def __enter__(self) -> Journal:
        """Return this journal; leaving closes it."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close. An error that ended the block goes before one of closing."""
        with contextlib.suppress(DataError) if exc is not None else contextlib.nullcontext():
            self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{self.path} is in use by another process: wait for it, or give another journal"
            ) from error

    def _write(self, line: bytes) -> None:
        """Write a line whole or not at all. Raises OSError."""
        before = os.fstat(self._file.fileno())
        if before.st_size != self._size:
            raise self._changed(f"has {before.st_size:,} bytes instead of the {self._size:,} that were written")
        try:
            in_place = os.path.samestat(before, self._place.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise self._changed("was moved, replaced or removed")
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(line)

    def _changed(self, what: str) -> DataError:
        return DataError(
            f"{self.path} {what} while this run wrote it, so the run ended: put the journal back, let nothing else "
            "change it, and run the same command again"
        )


def read_journal(path: Path) -> Ledger:
    """Read a journal, also while another process writes it. Raises DataError where it is damaged or is no journal."""
    try:
        _check_regular(path)
        with path.open("rb") as file:
            ledger = _read(path, file).ledger
    except OSError as error:
        raise _unusable(path, error) from error
    if not ledger.settings:
        raise DataError(f"{path} is empty: nothing was asked")
    return ledger


@dataclass(slots=True)
class _Read:
    """What a journal holds: the sum of its lines, their length, and how the last one was cut off."""

    ledger: Ledger
    whole_bytes: int = 0
    torn_bytes: int = 0
    lacks_newline: bool = False


def _read(path: Path, file: BinaryIO) -> _Read:
    read = _Read(Ledger())
    file.seek(0)
    # Only a journal is ever repaired, never a file that was named by mistake.
    begin = file.read(len(_FIRST_BYTES))
    if not _FIRST_BYTES.startswith(begin):
        raise DataError(f"{path} is no journal: give a new file, or one that an earlier run made")
    for number, line in enumerate(_lines(file), start=1):
        try:
            is_whole = True
            if line.endswith(b"\n"):
                text = line[:-1]
            elif len(line) > MAX_LINE_BYTES:
                raise ValueError(f"it is longer than {MAX_LINE_BYTES:,} bytes")
            else:
                text, is_whole = begun_line(line)
            if is_whole:
                ledger = read.ledger
                version = ledger.settings.get("format_version", FIRST_FORMAT_VERSION)
                record = record_of(text, needs_checksum=version > FIRST_FORMAT_VERSION)
                if number == 1 and record.get("format_version") != FIRST_FORMAT_VERSION:
                    _check_version(path, record)
                    record = record_of(text, needs_checksum=True)
                ledger.apply(record)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path}, line {number}: damaged ({type(error).__name__}: {error}). Cut that line out to go on: an "
                "answer in it is then asked for again, and money in it no longer counts towards the cap"
            ) from error
        read.lacks_newline = is_whole and not line.endswith(b"\n")
        read.whole_bytes += len(text) + (not read.lacks_newline) if is_whole else 0
        read.torn_bytes = 0 if is_whole else len(line)
    return read


def _check_version(path: Path, settings: Mapping[str, Any]) -> None:
    version = settings.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise DataError(
            f"{path} is a journal of format version {version}, and this version of the package reads "
            f"{FIRST_FORMAT_VERSION} to {FORMAT_VERSION}: use the version of the package that wrote it, or a newer one"
        )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    # The writing end is not buffered; reading it line by line would take a system call a byte.
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        buffered.seek(0)
        while line := buffered.readline(MAX_LINE_BYTES + 1):
            yield line


def _first_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    keys = sorted({*found, *wanted} - {"format_version"})
    return next((key for key in keys if found.get(key) != wanted.get(key)), None)


def _other_settings(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> DataError:
    key = _first_difference(found, wanted) or ""
    if key == "template" and found["format_version"] == FIRST_FORMAT_VERSION:
        return DataError(
            f"{path} was begun by an earlier version of this package, whose questions did not keep a response from "
            "speaking as if it stood outside of its tags. They are asked in another form now, and the answers "
            f"cannot be mixed: give another --journal; `augment judge --from-journal {path} --out FILE` makes "
            "battles of the answers that are there"
        )
    return DataError(
        f"{path} holds judgements with {key.replace('_', ' ')} {found.get(key)!r}, not {wanted.get(key)!r}, "
        "and they cannot be mixed: give another journal"
    )


def _check_regular(path: Path) -> None:
    """Raise DataError for what is there and no file: a device forgets all, and a pipe may never answer."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path} cannot be used as a journal: it is no regular file")


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unusable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be used as a journal ({error.strerror or error})")
