"""Temporary neighbours of a path: what its new content is written into, before it takes the path's place.

A neighbour is named `.NAME.<16 hexadecimal digits>.routellm-fast`. The process that made it holds a lock on it (flock)
for as long as it lives: a neighbour whose lock is free was left by a process that was killed, and may be removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".routellm-fast"
# With digits and suffix, a name must not be longer than the 255 bytes that file systems take.
_LONGEST_NAME: Final = 200
_ATTEMPTS: Final = 100
_LOCK_WAIT_S: Final = 60.0
_LOCK_POLL_S: Final = 0.01


@contextlib.contextmanager
def new_file(path: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """Make a file beside a path, and yield its place and a descriptor of it. It is removed at the end, if still there.

    Args:
        path: The file that it may replace.
        mode: Its permissions, less those that the umask takes.

    Raises:
        OSError: It cannot be made.
    """
    place, descriptor = _made(path, lambda at: os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
    try:
        yield place, descriptor
    finally:
        place.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder beside a path, for this user only, and yield it. At the end it is removed if it is empty.

    Raises:
        OSError: It cannot be made.
    """

    def make(place: Path) -> int:
        place.mkdir(mode=0o700)
        return _opened_folder(place)

    place, descriptor = _made(path, make)
    try:
        yield place
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()
        release(descriptor)


def abandoned(path: Path) -> Iterator[Path]:
    """Yield the neighbours of a path that killed processes left, each locked until the next one is asked for.

    Those of another user are passed over, but for the user whom the path belongs to: what lies in them is not
    trusted. So are all where the file system has no locks.
    """
    pattern = re.compile(rf"{re.escape(_stem(path))}\.[0-9a-f]{{16}}{re.escape(_SUFFIX)}")
    try:
        names = sorted(name for name in (entry.name for entry in path.parent.iterdir()) if pattern.fullmatch(name))
        trusted = {os.geteuid(), path.lstat().st_uid}
    except OSError:
        return
    for place in (path.parent / name for name in names):
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_uid in trusted and lock(descriptor) and _leads_to(place, descriptor):
                yield place
        finally:
            release(descriptor)


def lock_folder(path: Path) -> int | None:
    """Wait until no other process replaces a folder, and return a descriptor that keeps others from it.

    Returns:
        The descriptor, for `release`; None where nothing stands at the path.

    Raises:
        OSError: The folder cannot be opened, or another process keeps it locked (EBUSY).
    """
    until_s = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            descriptor = _opened_folder(path)
        except FileNotFoundError:
            return None
        # Where the file system has no locks (None), nobody is kept from it.
        if lock(descriptor) is not False and _leads_to(path, descriptor):
            return descriptor
        release(descriptor)
        if time.monotonic() > until_s:
            raise OSError(errno.EBUSY, f"another process has kept it locked for {_LOCK_WAIT_S:.0f} s")
        time.sleep(_LOCK_POLL_S)


def lock(descriptor: int) -> bool | None:
    """Take the lock of an open file or folder. False where another process has it, None where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def release(descriptor: int) -> None:
    """Give a lock back and close the descriptor."""
    # A child that was forked meanwhile has the descriptor too: closing alone would leave it the lock.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _made(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make a neighbour by a function that returns its descriptor, and lock it."""
    for _ in range(_ATTEMPTS):
        place = path.parent / f"{_stem(path)}.{os.urandom(8).hex()}{_SUFFIX}"
        try:
            descriptor = make(place)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            continue  # another process took it for one that was left, before it could be locked
        except FileExistsError:
            continue
        if lock(descriptor) is not False and _leads_to(place, descriptor):
            return place, descriptor
        os.close(descriptor)
    raise OSError(errno.EEXIST, f"no temporary neighbour could be made in {path.parent}")


def _stem(path: Path) -> str:
    """Return how the names of a path's neighbours begin. No other path of the folder has the same."""
    name = os.fsencode(path.name)
    if len(name) <= _LONGEST_NAME:
        return f".{path.name}"
    digest = hashlib.sha256(name).hexdigest()[:16]
    return f".{os.fsdecode(name[: _LONGEST_NAME - len(digest)])}{digest}"


def _opened_folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False
