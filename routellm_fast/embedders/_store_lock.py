"""The lock of an embedding store: one process at a time, and nobody waits for ever."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final

# A read-only file system, a lack of permission, and a file that is marked as immutable.
NOT_WRITABLE: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
_FIRST_PAUSE_S: Final = 50e-6
_LONGEST_PAUSE_S: Final = 5e-3


def identity_of(name: str) -> tuple[int, int] | None:
    """Return device and inode of the file that a path leads to now; None where it leads to none."""
    try:
        status = os.stat(name)  # noqa: PTH116 - pathlib's way takes longer, and every look-up asks
    except OSError:
        return None
    return status.st_dev, status.st_ino


class StoreLock:
    """A file that one process at a time holds a lock on. The system gives up the lock of a process that dies.

    Not thread-safe: whoever owns it lets one thread at a time use it.
    """

    def __init__(self, path: Path) -> None:
        """Take the file's path. Nothing is opened yet."""
        self._path, self._name = path, str(path)
        self._descriptor = -1
        self._identity = (0, 0)

    def acquire(self, timeout_s: float) -> None:
        """Lock the file, which is made if it is missing.

        Where this process may not write, and there is no lock file to read either, there is nothing to lock: on a
        read-only file system nobody writes.

        Raises:
            TimeoutError: Another process held the lock for this long.
            OSError: The file cannot be opened or locked.
        """
        until_s = time.monotonic() + timeout_s
        pause_s = _FIRST_PAUSE_S
        while self._descriptor >= 0 or self._open():
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        f"another process has held its lock for {timeout_s:g} s",
                        str(self._path),
                    ) from None
                time.sleep(pause_s)
                pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
                continue
            if identity_of(self._name) == self._identity:
                return
            self.close()  # others lock the file that replaced it

    def release(self) -> None:
        """Unlock the file."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unlock the file, if it is locked, and close it. A later `acquire` opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> bool:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                raise
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return False
        status = os.fstat(self._descriptor)
        self._identity = status.st_dev, status.st_ino
        return True
