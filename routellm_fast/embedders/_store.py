"""The store of embeddings on disk: an SQLite file in a folder that threads and processes share."""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._store_file import DamagedStoreError, StoreFile, is_damage, unusable
from routellm_fast.errors import EmbedderUnavailableError

_LOGGER: Final = logging.getLogger(__name__)
_T = TypeVar("_T")

# A value: dim, CRC-32 of key and vector, then the vector as little-endian float32.
_HEADER: Final = struct.Struct("<II")
_OPENING_TIMEOUT_S: Final = 10.0
_TIMEOUT_S: Final = 1.0
# A store that fails is left alone for this long, so that a call does not wait for it each time.
_REST_S: Final = 10.0
# What may be found: damage, damage to what replaced it, and then nothing that trying again would help.
_ATTEMPTS: Final = 3
_FULL: Final = "database or disk is full"
_FAILURES: Final = (
    sqlite3.Error,
    OSError,
    MemoryError,
    UnicodeDecodeError,
    DamagedStoreError,
    EmbedderUnavailableError,
)


class EmbeddingStore:
    """Keeps vectors by 16-byte keys, in a folder that several threads and processes can use at once. Thread-safe.

    A vector is returned exactly as it was stored or not at all: each is stored with its length and a checksum. Writes
    are atomic and survive the death of any process. A damaged file is set aside with a WARNING, and a new one begun: it
    is only a cache. A full store, a full disk and a failing disk raise no error: the store then stops growing, logs a
    WARNING, and counts what it could not keep. So does a store in a place that cannot be written to, such as a
    read-only mount: it answers from what it holds. Nothing is dropped to make room. A store survives a fork: parent and
    child connect anew.
    """

    def __init__(self, path: Path, *, dim: int, capacity_bytes: int) -> None:
        """Open or create the folder.

        Args:
            path: A folder that is missing, empty or made by an EmbeddingStore. Several stores may share it.
            dim: Number of values in a vector.
            capacity_bytes: The most bytes of the folder's file. Where several stores share the folder, now or earlier,
                the largest value counts.

        Raises:
            EmbedderUnavailableError: The path is a file, a folder of another program, of a newer format, or cannot be
                read; or there is no store, and none can be made.
        """
        self._path = path
        self._dim = dim
        self._file = StoreFile(path, capacity_bytes)
        # Reentrant: the garbage collector may close one store while another works.
        self.mutex = threading.RLock()
        self._warned: set[str] = set()
        self._closed = False
        self._read_from_s = 0.0  # by time.monotonic(): not before
        self._write_from_s = 0.0
        self.rejected = 0
        self.damaged = 0
        self._open()
        _stores.add(self)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """Return the vectors of the keys that are stored undamaged."""
        found: dict[bytes, FloatArray] = {}
        with self.mutex:
            if not self._closed and time.monotonic() >= self._read_from_s:
                try:
                    found = self._attempt(lambda connection: self._look_up(connection, keys))
                except _FAILURES as error:
                    self._read_from_s = self._write_from_s = time.monotonic() + _REST_S
                    self._warn_once(f"cannot be read, and is left alone for {_REST_S:g} s at a time", error)
        return found

    def write(self, vectors: Mapping[bytes, FloatArray]) -> None:
        """Store all vectors under their keys, or none. A new vector replaces the one that the key had."""
        if not vectors:
            return
        with self.mutex:
            is_kept = False
            if not self._closed and time.monotonic() >= self._write_from_s:
                rows = [(key, self._pack(key, vector)) for key, vector in vectors.items()]
                try:
                    is_kept = self._attempt(lambda connection: self._put(connection, rows))
                except _FAILURES as error:
                    self._write_from_s = time.monotonic() + _REST_S
                    self._warn_once("stores nothing new for now; embeddings are answered as before", error)
            if not (is_kept or self._closed):
                self.rejected += len(vectors)

    def close(self) -> None:
        """Close the store. After that, reads find nothing and writes keep nothing."""
        with self.mutex:
            self._closed = True
            self._file.close()

    def disconnect(self) -> None:
        """Close what a forked child must not share. The next call opens it again. To be called with the mutex held."""
        self._file.close()

    def _open(self) -> None:
        try:
            self._file.lock(_OPENING_TIMEOUT_S)
            try:
                self._file.connection()
            finally:
                self._file.unlock()
        except EmbedderUnavailableError:
            self._file.close()
            raise
        except _FAILURES as error:
            self._file.close()
            raise unusable(
                self._path, str(error), "Give a folder that can be written to, or delete the store: it is only a cache"
            ) from error
        self._mind_read_only()

    def _mind_read_only(self) -> None:
        why = self._file.why_read_only
        if why is not None:
            self._warn_once("stores nothing new, and answers from what it holds", why)

    def _attempt(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Return what the work returns, under the lock. Where the file is damaged, a new one takes its place."""
        left = _ATTEMPTS
        while True:
            left -= 1
            try:
                self._file.lock(_TIMEOUT_S)
                try:
                    return self._work(work)
                finally:
                    self._file.unlock()
            except _FAILURES as error:
                # Whatever is there now, or was made in its place, is opened anew.
                self._file.close()
                if left == 0 or isinstance(error, TimeoutError) or str(error) == _FULL:
                    raise

    def _work(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._file.connection()
        self._mind_read_only()
        try:
            return work(connection)
        except _FAILURES as error:
            if is_damage(error):
                self._file.set_aside(error)
            raise

    def _look_up(self, connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        found: dict[bytes, FloatArray] = {}
        connection.execute("BEGIN")
        for key in keys:
            row = connection.execute("SELECT value FROM embeddings WHERE key = ?", (key,)).fetchone()
            vector = None if row is None else self._unpack(key, row[0])
            if vector is not None:
                found[key] = vector
        connection.execute("COMMIT")
        return found

    def _put(self, connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """Return whether the rows are stored: not where the store can be read only."""
        if self._file.why_read_only is not None:
            return False
        try:
            _insert(connection, rows)
        except sqlite3.OperationalError as error:
            if str(error) != _FULL or not self._file.grew():
                raise
            _insert(connection, rows)
        return True

    def _pack(self, key: bytes, vector: FloatArray) -> bytes:
        data = vector.astype("<f4", copy=False).tobytes()
        return _HEADER.pack(self._dim, zlib.crc32(data, zlib.crc32(key))) + data

    def _unpack(self, key: bytes, value: object) -> FloatArray | None:
        if isinstance(value, bytes) and len(value) == _HEADER.size + 4 * self._dim:
            dim, checksum = _HEADER.unpack_from(value)
            data = memoryview(value)[_HEADER.size :]
            if dim == self._dim and checksum == zlib.crc32(data, zlib.crc32(key)):
                return np.frombuffer(data, dtype="<f4").astype(np.float32)
        self.damaged += 1
        return None

    def _warn_once(self, what: str, reason: object) -> None:
        if what not in self._warned:
            self._warned.add(what)
            _LOGGER.warning("the embedding store at %s %s: %s", self._path, what, reason)


def reopen(path: Path, *, dim: int, capacity_bytes: int) -> EmbeddingStore | None:
    """Open an EmbeddingStore in a forked child during a call. Where that fails, log a warning and return None."""
    try:
        return EmbeddingStore(path, dim=dim, capacity_bytes=capacity_bytes)
    except EmbedderUnavailableError as error:
        _LOGGER.warning("after a fork: %s Embedding goes on without the store.", error)
        return None


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
        # A damaged index takes what it does not find again: such a file would never keep anything under these keys.
        for key, value in rows:
            found = connection.execute("SELECT value FROM embeddings WHERE key = ?", (key,)).fetchone()
            if found is None or found[0] != value:
                raise DamagedStoreError("what was written is not found again")
        connection.execute("COMMIT")
    except (sqlite3.Error, DamagedStoreError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class _Stores:
    """The stores of this process. At a fork none of them is at work, nor connected."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stores: weakref.WeakSet[EmbeddingStore] = weakref.WeakSet()
        self._held: list[EmbeddingStore] = []
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._let_go)

    def add(self, store: EmbeddingStore) -> None:
        with self._lock:
            self._stores.add(store)

    def _hold(self) -> None:
        self._lock.acquire()
        self._held = list(self._stores)
        for store in self._held:
            store.mutex.acquire()
            store.disconnect()

    def _let_go(self) -> None:
        for store in self._held:
            store.mutex.release()
        self._held = []
        self._lock.release()


_stores = _Stores()
