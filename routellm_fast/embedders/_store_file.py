"""The SQLite file of an embedding store: it is opened, told from other files, and begun anew where it is damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import struct
import zlib
from pathlib import Path
from typing import Final

from routellm_fast.embedders._store_lock import NOT_WRITABLE, StoreLock, identity_of
from routellm_fast.errors import EmbedderUnavailableError

_LOGGER: Final = logging.getLogger(__name__)

# So long that a file of this name is a store, or was one.
DATA_FILE: Final = "routellm_fast_embeddings.sqlite3"
DAMAGED_FILE: Final = f"{DATA_FILE}.damaged"
_LOCK_FILE: Final = f"{DATA_FILE}.lock"
_JOURNAL_FILE: Final = f"{DATA_FILE}-journal"  # SQLite's name for it
_OWN_FILES: Final = frozenset({DATA_FILE, DAMAGED_FILE, _LOCK_FILE, _JOURNAL_FILE})

_MAGIC: Final = b"SQLite format 3\0"
# Of SQLite's header: the versions needed for writing and for reading, at 18; fractions that are always the same, at 21;
# the schema's format, at 44; the application's id, at 68; the version of SQLite that wrote last, at 96.
_HEADER: Final = struct.Struct(">18xBBx3s20xI20xI24xI")
_FRACTIONS: Final = b"\x40\x20\x20"
# As SQLite writes them for a rollback journal. A write-ahead log, whose index SQLite maps, would have (2, 2, 4).
_WRITTEN: Final = (1, 1, 4)
_APPLICATION_ID: Final = 0x524C4645  # "RLFE"
_FORMAT: Final = 1
_SCHEMA: Final = "CREATE TABLE embeddings (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
_OBJECTS: Final = [("embeddings", _SCHEMA), ("sqlite_autoindex_embeddings_1", None)]

_PAGE_BYTES: Final = 4096
# No key of an embedding has this length.
_CAPACITY_KEY: Final = b"capacity_bytes"
_CAPACITY: Final = struct.Struct("<QI")


class DamagedStoreError(Exception):
    """The store's file is not what was written."""


# Besides DatabaseError itself. Its subclass OperationalError says that the system refused something.
# UnicodeDecodeError: SQLite quotes damaged names in its messages.
_DAMAGE: Final = (
    DamagedStoreError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InternalError,
    UnicodeDecodeError,
)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that the file is damaged."""
    return isinstance(error, _DAMAGE) or type(error) is sqlite3.DatabaseError


class StoreFile:
    """The database of a folder, and this process's connection to it. Not thread-safe.

    SQLite maps no file here and takes no locks: a file that is damaged or cut off while it is read is an error and no
    signal, as it could be with a write-ahead log, whose index SQLite maps; and one lock of our own keeps processes
    apart, also while a damaged file is set aside. Nothing is forced to disk: after a power cut the file may be damaged,
    and is begun anew, as it is only a cache. A process that is killed leaves a journal, by which the next one takes its
    unfinished transaction back.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        """Take the folder, which need not exist, and the most bytes that this process wants the file to have."""
        self._folder = folder
        self._path = folder / DATA_FILE
        self._name = str(self._path)
        self._wanted_bytes = capacity_bytes
        self._lock = StoreLock(folder / _LOCK_FILE)
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._most_pages = 0
        self.why_read_only: str | None = None

    def lock(self, timeout_s: float) -> None:
        """Keep all other processes out until `unlock`.

        Raises:
            EmbedderUnavailableError: The folder holds files of others, and no store.
            OSError: The folder or its lock cannot be made, or another process has held the lock for this long.
        """
        if self._connection is None:
            self._prepare_folder()
        try:
            self._lock.acquire(timeout_s)
        except FileNotFoundError:  # the folder was removed
            self._prepare_folder()
            self._lock.acquire(timeout_s)

    def unlock(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def connection(self) -> sqlite3.Connection:
        """Return the connection to the file that the path leads to now. To be called under the lock.

        A damaged file is set aside and a new one made, with a warning.

        Raises:
            EmbedderUnavailableError: The file is another program's, or of a newer format.
            DamagedStoreError: The file is damaged and cannot be written.
            sqlite3.Error: It cannot be opened.
            OSError: It cannot be opened or set aside.
        """
        if self._connection is not None and self._is_current():
            return self._connection
        self.disconnect()
        try:
            return self._connect()
        except (sqlite3.Error, UnicodeDecodeError, DamagedStoreError) as error:
            if not is_damage(error):
                raise
            self.set_aside(error)
            return self._connect()

    def set_aside(self, reason: Exception) -> None:
        """Move a damaged file away, with a warning. To be called under the lock.

        Raises:
            DamagedStoreError: This process may not write here.
            OSError: It cannot be moved.
        """
        self.disconnect()
        if self.why_read_only is not None:
            raise DamagedStoreError(f"it is damaged ({reason}) and can only be read") from reason
        damaged = self._folder / DAMAGED_FILE
        self._path.replace(damaged)
        # It belongs to the damaged file: a new one must not be changed by it.
        (self._folder / _JOURNAL_FILE).unlink(missing_ok=True)
        _LOGGER.warning(
            "the embedding store at %s is damaged: %s. Its file is now %s, which nobody needs; a new store is begun, "
            "and embeddings are computed again.",
            self._folder,
            reason,
            damaged,
        )

    def grew(self) -> bool:
        """Return whether the file may have become larger, as another store of the folder has a larger capacity."""
        before = self._most_pages
        if self._connection is not None:
            self._bound(self._connection)
        return self._most_pages > before

    def disconnect(self) -> None:
        """Close the connection. A later `connection` opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connection and the lock. Both can be used again."""
        self.disconnect()
        self._lock.close()

    def _is_current(self) -> bool:
        """Whether the path still leads to the file that is connected: others may have replaced or removed it."""
        return identity_of(self._name) == self._identity

    def _prepare_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in self._folder.iterdir()}
        if names and not names & _OWN_FILES:
            found = "an LMDB store, which only earlier versions read" if "data.mdb" in names else "other files"
            raise unusable(self._folder, f"it holds {found}", "Give a folder of its own")

    def _connect(self) -> sqlite3.Connection:
        self.why_read_only = self._find_why_read_only()
        self._check_header()
        mode = "rwc" if self.why_read_only is None else "ro"
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}&nolock=1",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.text_factory = bytes  # damaged text may be no UTF-8
            self._set_up(connection)
            if self.why_read_only is None and _is_blank(connection):
                _create(connection)
            self._check_contents(connection)
            self._bound(connection)
            status = self._path.stat()
        except BaseException:
            connection.close()
            raise
        self._identity = status.st_dev, status.st_ino
        self._connection = connection
        return connection

    def _find_why_read_only(self) -> str | None:
        """Return why the store can be read only; None where it can be written, or where there is no store."""
        try:
            if self._path.exists():
                os.close(os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            # A new file in the folder, which every transaction needs. Opened, as it need not be kept.
            os.close(
                os.open(self._folder / _JOURNAL_FILE, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
            )
        except OSError as error:
            if error.errno not in NOT_WRITABLE or not self._path.is_file():
                raise
            return f"{error.strerror} ({error.filename})"
        return None

    def _check_header(self) -> None:
        """Raise DamagedStoreError where the file is there, holds something, and is no such database."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise unusable(self._folder, f"{DATA_FILE} is no regular file", "Remove it, or give another folder")
            header = os.read(descriptor, _HEADER.size)
        finally:
            os.close(descriptor)
        if not header:
            return
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise DamagedStoreError(f"{DATA_FILE} is no SQLite file")
        writing, reading, fractions, schema, application, sqlite = _HEADER.unpack(header)
        if (writing, reading, schema) != _WRITTEN:
            # What SQLite itself never writes is no other program's database, but this one with a damaged beginning.
            is_sound = {writing, reading} <= {1, 2} and fractions == _FRACTIONS and schema <= 4 and sqlite != 0
            if application != _APPLICATION_ID and is_sound:
                raise self._foreign()
            raise DamagedStoreError(f"the header of {DATA_FILE} was changed")

    def _set_up(self, connection: sqlite3.Connection) -> None:
        for setting in (
            "mmap_size = 0",
            f"page_size = {_PAGE_BYTES}",
            "synchronous = OFF",
            "cell_size_check = ON",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {setting}")
        if self.why_read_only is None:
            connection.execute("PRAGMA journal_mode = TRUNCATE")

    def _check_contents(self, connection: sqlite3.Connection) -> None:
        """Refuse what is no store, and what a newer version wrote."""
        rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        objects = [
            tuple(None if text is None else bytes(text).decode(errors="replace") for text in row) for row in rows
        ]
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not objects and self.why_read_only is not None and (application, version) == (0, 0):
            return  # nobody has written to it yet
        signs = objects == _OBJECTS, application == _APPLICATION_ID, version == _FORMAT
        if all(signs):
            return
        # One mark of two that is missing is damage: another program's file has neither.
        if signs[0] or (signs[1] and signs[2]):
            raise DamagedStoreError(f"the tables or marks of {DATA_FILE} are not those of a store")
        if signs[1]:
            raise unusable(
                self._folder, f"its format is {version}, this version reads {_FORMAT}", "Give another folder"
            )
        raise self._foreign()

    def _foreign(self) -> EmbedderUnavailableError:
        return unusable(self._folder, f"{DATA_FILE} is a database of another program", "Give another folder")

    def _bound(self, connection: sqlite3.Connection) -> None:
        """Bound the file by the largest capacity that any store of the folder was opened with."""
        if self.why_read_only is not None:
            return
        row = connection.execute("SELECT value FROM embeddings WHERE key = ?", (_CAPACITY_KEY,)).fetchone()
        stored = 0 if row is None else _unpack_capacity(row[0])
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        self._most_pages = max(stored, self._wanted_bytes) // page_bytes
        connection.execute(f"PRAGMA max_page_count = {self._most_pages}")
        if stored < self._wanted_bytes:
            value = _pack_capacity(self._wanted_bytes)
            with contextlib.suppress(sqlite3.OperationalError):  # a full disk keeps no store from being read
                connection.execute("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", (_CAPACITY_KEY, value))


def unusable(path: Path, reason: str, advice: str) -> EmbedderUnavailableError:
    """Return the error that says why a folder cannot be a store."""
    return EmbedderUnavailableError(f"the embedding store at {path} cannot be used: {reason}. {advice}.")


def _is_blank(connection: sqlite3.Connection) -> bool:
    """Tell whether nothing was ever written: the file is new, or its maker was killed in the first transaction."""
    (count,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return (count, application, version) == (0, 0, 0)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute(_SCHEMA)
    connection.execute("COMMIT")


def _pack_capacity(capacity_bytes: int) -> bytes:
    checksum = zlib.crc32(capacity_bytes.to_bytes(8, "little"), zlib.crc32(_CAPACITY_KEY))
    return _CAPACITY.pack(capacity_bytes, checksum)


def _unpack_capacity(value: object) -> int:
    """Return the stored capacity; 0 where it is damaged, which the next store of the folder mends."""
    if not isinstance(value, bytes) or len(value) != _CAPACITY.size:
        return 0
    capacity_bytes = int(_CAPACITY.unpack(value)[0])
    return capacity_bytes if _pack_capacity(capacity_bytes) == value else 0
