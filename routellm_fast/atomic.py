"""Directories and files that appear whole or not at all, and that take nothing with them which is not ours."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from routellm_fast import _foreign, _neighbours, _renames
from routellm_fast.owned import Owned
from routellm_fast.places import descriptor_link, destination, holds_nothing, is_stream

_LOGGER: Final = logging.getLogger(__name__)
_ATTEMPTS: Final = 10
# What a temporary neighbour of a directory holds: the new directory while it is written; the same when it is about to
# change places with the old one, and then the old one; the old one where names cannot change places. A killed process
# leaves them so: "new" is ours and removed whole, the others may hold what is not ours.
_NEW: Final = "new"
_TURN: Final = "turn"
_OLD: Final = "old"


@contextlib.contextmanager
def staged_directory(path: Path, owned: Callable[[Path], Owned]) -> Iterator[Path]:
    """Write a directory of files so that readers see the old one or the new one, also after a crash.

    Yields a new directory, which the block fills with synced files. When the block ends without an error, it takes
    `path` in one step, with the permissions of what stood there and with all files and folders there that are not
    `owned`. After an error `path` is unchanged. Where `path` is a symbolic link, the directory that it leads to is
    replaced, or made.

    What processes left that were killed while they did this for the same path is removed, too. Of several processes
    that replace one directory at a time, each waits for the others, and the last one's stays.

    Args:
        path: The directory. Its parents are made.
        owned: Returns which files of a directory, or of whatever else stands at the path, this package wrote. Raises
            an error of its own where that is not known. It is asked before the block begins and again when it has
            ended, and not for an empty directory.

    Raises:
        OutputExistsError: A new file has the name of one that is not ours.
        OSError: The new directory could not be made, or could not replace `path`; or what is not ours cannot be
            carried over.
    """
    path = destination(path)
    if path.exists() and not holds_nothing(path):
        owned(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _neighbours.new_folder(path) as folder:
        try:
            (folder / _NEW).mkdir(mode=0o700 if path.exists() else 0o777)
            yield folder / _NEW
            _publish(folder, path, owned)
        finally:
            _foreign.remove_own(folder / _NEW)


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file so that readers see the old one or the new one, also after a crash.

    Yields a new file, which the block fills. When the block ends without an error, the file takes `path` in one step,
    with the permissions of what stood there; after an error `path` is unchanged. Where `path` is a symbolic link, the
    file that it leads to is replaced, or made. A device, a FIFO or /dev/stdout is not replaced: the block writes into
    it.

    Raises:
        OSError: The new file could not be written, or could not replace `path`.
    """
    if is_stream(path):
        with _opened_stream(path) as file:
            yield file
        return
    path = destination(path)
    with _neighbours.new_file(path, 0o600 if path.exists() else 0o666) as (place, descriptor):
        with os.fdopen(os.dup(descriptor), "wb") as file:
            yield file
            file.flush()
            if path.exists():
                _foreign.adopt(path, place)
            os.fsync(descriptor)
        place.replace(path)
        _sync(path.parent)
        for left in _neighbours.abandoned(path):
            with contextlib.suppress(OSError):  # a directory's is not ours to judge here
                left.unlink()


@contextlib.contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for the block to write. When the block has ended, the content is on the disk."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _publish(folder: Path, path: Path, owned: Callable[[Path], Owned]) -> None:
    """Let the new directory in a neighbour's folder take a path's place, and remove what it replaces."""
    new = folder / _NEW
    own_lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _neighbours.lock(own_lock)  # who finds the new directory at the path waits until this is over
        for _ in range(_ATTEMPTS):
            locked = _neighbours.lock_folder(path)
            if locked is None:
                if _take_free_place(new, path):
                    break
                continue
            try:
                _take_over(folder, path, Owned() if holds_nothing(path) else owned(path))
                break
            finally:
                _neighbours.release(locked)
        else:
            raise OSError(errno.EBUSY, "others make and remove it all the time")
        for left in _neighbours.abandoned(path):
            _take_apart_left(left, path, owned)
    finally:
        _neighbours.release(own_lock)


def _take_free_place(new: Path, path: Path) -> bool:
    _sync(new)
    try:
        new.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False  # somebody made it meanwhile
    _sync(path.parent)
    return True


def _take_over(folder: Path, path: Path, owned: Owned) -> None:
    new, turn, old = (folder / name for name in (_NEW, _TURN, _OLD))
    carried = _foreign.carry_over(path, new, owned)
    _sync_tree(new)
    new.rename(turn)
    try:
        if _renames.exchange(turn, path):
            old = turn
        else:  # for a moment, nothing stands at the path
            path.rename(old)
            try:
                turn.rename(path)
            except OSError:
                old.rename(path)
                raise
    except OSError:
        turn.rename(new)
        raise
    _sync(path.parent)
    _take_apart(old, path, owned, carried)


def _take_apart_left(folder: Path, path: Path, owned: Callable[[Path], Owned]) -> None:
    """Remove what a killed process left, and save what is not ours in it."""
    if not folder.is_dir():
        with contextlib.suppress(OSError):
            folder.unlink()
        return
    _foreign.remove_own(folder / _NEW)
    for old in (folder / _OLD, folder / _TURN):
        if not os.path.lexists(old):
            continue
        try:
            known = owned(old)
        except OSError:  # empty, or taken apart but for what is not ours
            known = Owned()
        _take_apart(old, path, known, {})
    with contextlib.suppress(OSError):
        folder.rmdir()


def _take_apart(old: Path, path: Path, owned: Owned, carried: _foreign.Carried) -> None:
    try:
        kept = _foreign.take_apart(old, path, owned, carried)
    except OSError as error:
        _LOGGER.warning("%s, which was replaced, could not be removed: %s", old, error.strerror or error)
    else:
        if kept:
            _LOGGER.warning(
                "%s holds what somebody changed while %s was replaced, and is kept: %s", old, path, ", ".join(kept)
            )


def _opened_stream(path: Path) -> BinaryIO:
    link = descriptor_link(path)
    if link is not None and link.parent == Path(f"/proc/{os.getpid()}/fd"):
        return os.fdopen(os.dup(int(link.name)), "wb")  # goes on where the open file is, after what it holds
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CLOEXEC), "wb")


def _sync_tree(directory: Path) -> None:
    for folder, _, _ in os.walk(directory):
        _sync(Path(folder))


def _sync(directory: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync a directory
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
