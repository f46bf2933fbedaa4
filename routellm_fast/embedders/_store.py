"""The store of embeddings on disk: an LMDB folder that threads and processes share."""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import EmbedderUnavailableError
from routellm_fast.extras import require

_logger = logging.getLogger(__name__)

# Every other key is 16 bytes long. An LMDB folder without this key belongs to another program.
_FORMAT_KEY = b"routellm_fast embedding store"
_FORMAT = b"1"
# A value: dim, CRC-32 of key and vector, then the vector as little-endian float32.
_HEADER = struct.Struct("<II")
# Size of LMDB's lock file with its default of 126 readers.
_LOCK_FILE_BYTES = 8192
# A read-only file system, a lack of permission, and a file that is marked as immutable.
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class _Environment:
    """An open LMDB environment. LMDB allows one per folder and process, so all stores of a folder share it.

    Where the folder cannot be written to, the environment is read-only, and `why_read_only` says why.
    """

    def __init__(self, lmdb: Any, path: Path, map_size_bytes: int) -> None:
        self.users = 0
        # Readers take turns: a lookup takes two microseconds, and no reader may be active while the map's size changes.
        self.read_lock = threading.Lock()
        self.write_lock = threading.Lock()
        self.why_read_only = _why_read_only(path)
        # max_spare_txns=0: a kept transaction would be shared with a forked child.
        common = {"map_size": map_size_bytes, "readahead": False, "max_spare_txns": 0}
        if self.why_read_only is None:
            # metasync=False: a power cut may lose the last transaction, never the consistency of the others.
            self.handle = lmdb.open(str(path), metasync=False, create=True, **common)
        else:
            # LMDB's lock file keeps writers off the pages that are being read. Where this process may not write to it,
            # reading goes without: on a read-only file system nobody writes, and a checksum guards every vector.
            has_lock = os.access(path / "lock.mdb", os.W_OK)
            self.handle = lmdb.open(str(path), readonly=True, lock=has_lock, create=False, **common)
        try:
            if self.why_read_only is None:
                # A killed process leaves its reader slot behind, and with it a claim on old pages.
                self.handle.reader_check()
            self._check_file(path)
            self._check_format(path)
        except BaseException:
            self.handle.close()
            raise

    def grow_map(self, map_size_bytes: int) -> None:
        """Use a larger map; 0 uses the size that another process chose."""
        with self.write_lock, self.read_lock:
            if map_size_bytes == 0 or map_size_bytes > self.handle.info()["map_size"]:
                self.handle.set_mapsize(map_size_bytes)

    def _check_file(self, path: Path) -> None:
        # Reading a mapped page behind the file's end would kill the process.
        expected = (self.handle.info()["last_pgno"] + 1) * self.handle.stat()["psize"]
        found = (path / "data.mdb").stat().st_size
        if found < expected:
            raise _unusable(path, f"data.mdb is truncated: {found} bytes of {expected}", "Delete the folder")

    def _check_format(self, path: Path) -> None:
        with self.handle.begin() as transaction:
            found = transaction.get(_FORMAT_KEY)
            is_new = found is None and transaction.stat()["entries"] == 0
        if is_new:
            if self.why_read_only is not None:
                return  # a store that nobody has written to yet
            with self.handle.begin(write=True) as transaction:
                transaction.put(_FORMAT_KEY, _FORMAT)
        elif found is None:
            raise _unusable(path, "it is an LMDB environment of another program", "Give another folder")
        elif found != _FORMAT:
            raise _unusable(path, f"its format is {found!r}, this version reads {_FORMAT!r}", "Give another folder")


class _Environments:
    """The environments that this process has open, by folder; LMDB's file locks belong to the process."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may close one store while another opens.
        self._lock = threading.RLock()
        self._open: dict[tuple[int, int], _Environment] = {}
        # With every lock held no transaction is under way at the fork. The child may not use what it inherits.
        os.register_at_fork(before=self._hold, after_in_parent=self._let_go, after_in_child=self._forget)

    def acquire(self, lmdb: Any, path: Path, map_size_bytes: int) -> _Environment:
        """Return the folder's environment, and open it if it is not open. Pass it to `release` when done."""
        with self._lock:
            stat = path.stat()
            key = (stat.st_dev, stat.st_ino)
            environment = self._open.get(key)
            if environment is None:
                environment = self._open[key] = _Environment(lmdb, path, map_size_bytes)
            else:
                environment.grow_map(map_size_bytes)
            environment.users += 1
            return environment

    def release(self, environment: _Environment) -> None:
        """Close the environment after its last user. An environment that a fork inherited is closed already."""
        with self._lock:
            environment.users -= 1
            if environment.users > 0:
                return
            for key in [key for key, value in self._open.items() if value is environment]:
                del self._open[key]
                with environment.write_lock, environment.read_lock:
                    environment.handle.close()

    def _hold(self) -> None:
        self._lock.acquire()
        for environment in self._open.values():
            environment.write_lock.acquire()
            environment.read_lock.acquire()

    def _let_go(self) -> None:
        for environment in self._open.values():
            environment.read_lock.release()
            environment.write_lock.release()
        self._lock.release()

    def _forget(self) -> None:
        for environment in self._open.values():
            environment.handle.close()
            environment.read_lock.release()
            environment.write_lock.release()
        self._open.clear()
        self._lock.release()


_environments = _Environments()


class EmbeddingStore:
    """Keeps vectors of one length by 16-byte keys, in a folder that several threads and processes can use at once.

    A vector is returned exactly as it was stored or not at all: each is stored with its length and a checksum. Writes
    are atomic and survive the death of any process. A full map, a full disk and a failing disk raise no error: the
    store then stops growing, logs one WARNING, and counts what it could not keep. So does a store in a place that
    cannot be written to, such as a read-only mount: it answers from what it holds. Nothing is ever dropped. A forked
    child must open a store of its own.
    """

    def __init__(self, path: Path, *, dim: int, map_size_bytes: int) -> None:
        """Open or create the folder.

        Args:
            path: A folder that is missing, empty or made by an EmbeddingStore. Several stores may share it.
            dim: Number of values in a vector.
            map_size_bytes: The most bytes of data.mdb. Where several stores share the folder, the largest value counts.

        Raises:
            MissingExtraError: lmdb is not installed.
            EmbedderUnavailableError: The path is a file, a folder of another program, damaged, of a newer format, or
                cannot be read; or there is no store, and none can be made.
        """
        self._lmdb = require("lmdb", "cache")
        self._path = path
        self._dim = dim
        self._lock = threading.Lock()
        self._growing = True
        self._warned = False
        self._closed = False
        self.rejected = 0
        self.damaged = 0
        self._environment = self._open(map_size_bytes)
        if self._environment.why_read_only is not None:
            self._growing = False
            self._warn_once("stores nothing new, and answers from what it holds", self._environment.why_read_only)

    def read(self, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """Return the vectors of the keys that are stored undamaged."""
        found: dict[bytes, FloatArray] = {}

        def look_up() -> None:
            with self._environment.read_lock, self._environment.handle.begin(buffers=True) as transaction:
                for key in keys:
                    value = transaction.get(key)
                    vector = None if value is None else self._unpack(key, value)
                    if vector is not None:
                        found[key] = vector

        if not self._closed:
            try:
                self._with_current_map(look_up)
            except self._lmdb.Error as error:
                self._warn_once("cannot be read", error)
        return found

    def write(self, vectors: Mapping[bytes, FloatArray]) -> None:
        """Store all vectors under their keys, or none. A new vector replaces the one that the key had."""
        packed = [(key, self._pack(key, vector)) for key, vector in vectors.items()]

        def put() -> None:
            with self._environment.write_lock, self._environment.handle.begin(write=True) as transaction:
                for key, value in packed:
                    transaction.put(key, value)

        if not packed or self._closed:
            return
        if self._growing:
            try:
                self._with_current_map(put)
            except self._lmdb.Error as error:
                self._growing = False
                self._warn_once("stops growing; embeddings are answered as before", error)
            else:
                return
        self._count(rejected=len(packed))

    def close(self) -> None:
        """Close the store. After that, reads find nothing and writes keep nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _environments.release(self._environment)

    def _open(self, map_size_bytes: int) -> _Environment:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            names = {entry.name for entry in self._path.iterdir()} - {"lock.mdb"}
            if names and "data.mdb" not in names:
                raise _unusable(self._path, "it holds other files", "Give a folder of its own")
            return _environments.acquire(self._lmdb, self._path, map_size_bytes)
        except (OSError, self._lmdb.Error) as error:
            raise _unusable(
                self._path,
                str(error),
                "Give a folder that can be written to. A damaged store may be deleted, as it is only a cache",
            ) from error

    def _with_current_map(self, transact: Callable[[], None]) -> None:
        try:
            transact()
        except self._lmdb.MapResizedError:  # another process has a larger map, and used it
            self._environment.grow_map(0)
            transact()

    def _pack(self, key: bytes, vector: FloatArray) -> bytes:
        data = vector.astype("<f4", copy=False).tobytes()
        return _HEADER.pack(self._dim, zlib.crc32(data, zlib.crc32(key))) + data

    def _unpack(self, key: bytes, value: memoryview) -> FloatArray | None:
        if len(value) == _HEADER.size + 4 * self._dim:
            dim, checksum = _HEADER.unpack_from(value)
            data = value[_HEADER.size :]
            if dim == self._dim and checksum == zlib.crc32(data, zlib.crc32(key)):
                return np.frombuffer(data, dtype="<f4").astype(np.float32)
        self._count(damaged=1)
        return None

    def _count(self, *, rejected: int = 0, damaged: int = 0) -> None:
        with self._lock:
            self.rejected += rejected
            self.damaged += damaged

    def _warn_once(self, what: str, reason: object) -> None:
        with self._lock:
            if self._warned:
                return
            self._warned = True
        _logger.warning("the embedding store at %s %s: %s", self._path, what, reason)


def reopen(path: Path, *, dim: int, map_size_bytes: int) -> EmbeddingStore | None:
    """Open an EmbeddingStore in a forked child during a call. Where that fails, log a warning and return None."""
    try:
        return EmbeddingStore(path, dim=dim, map_size_bytes=map_size_bytes)
    except EmbedderUnavailableError as error:
        _logger.warning("after a fork: %s Embedding goes on without the store.", error)
        return None


def _why_read_only(path: Path) -> str | None:
    """Return why a folder's store can be read only; None where it can be written to, or where there is no store."""
    data = path / "data.mdb"
    try:
        # LMDB maps its lock file: on a full disk the first touch of a page that is not there would kill the process.
        # It must be done before the open: closing any descriptor of the file gives up this process's locks on it.
        _allocate(path / "lock.mdb", _LOCK_FILE_BYTES)
        if data.exists():
            os.close(os.open(data, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not data.is_file():
            raise
        return f"{error.strerror} ({error.filename})"
    return None


def _allocate(path: Path, size: int) -> None:
    """Give a file at least this many bytes, with all its pages on disk. Raises OSError if there is no room."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        stat = os.fstat(descriptor)
        if stat.st_size < size or stat.st_blocks * 512 < stat.st_size:
            os.posix_fallocate(descriptor, 0, max(size, stat.st_size))
    finally:
        os.close(descriptor)


def _unusable(path: Path, reason: str, advice: str) -> EmbedderUnavailableError:
    return EmbedderUnavailableError(f"the embedding store at {path} cannot be used: {reason}. {advice}.")
