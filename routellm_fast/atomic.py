"""Directories and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from routellm_fast.errors import OutputExistsError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def staged_directory(path: Path) -> Iterator[Path]:
    """Write a directory of files so that readers see the old one or the new one, also after a crash.

    Yields a new directory beside `path`, which the block fills with synced files. When the block ends without an error,
    that directory replaces `path` in one step. After an error `path` is unchanged and the new directory is removed.

    Raises:
        OSError: The new directory could not be made, or could not replace `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=".tmp", dir=path.parent))
    try:
        staging.chmod(0o755)
        yield staging
        _sync(staging)
        _replace(staging, path)
        _sync(path.parent)
    finally:
        # After an exchange the staging name holds the old directory.
        shutil.rmtree(staging, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Check, before long work, that files can be written in a folder, or that a missing folder can be made.

    The check writes a temporary folder and removes it.

    Raises:
        OSError: Neither is possible.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=folder):
        pass


def check_vacant(path: Path, *, force: bool) -> None:
    """Refuse, before long work, to replace what stands where its result should go. An empty folder is nothing.

    Args:
        path: Where a file or a folder should go.
        force: Whether it may be replaced.

    Raises:
        OutputExistsError: Something stands there, and force is false.
    """
    try:
        taken = not force and (path.is_symlink() or path.exists()) and not (path.is_dir() and not any(path.iterdir()))
    except OSError:  # it cannot be looked at: the check whether it can be written names the reason
        return
    if taken:
        raise OutputExistsError(f"{path} exists already. Choose another path, or replace it: --force (force=True)")


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file so that readers see the old one or the new one, also after a crash.

    Yields a new file beside `path`, which the block fills. When the block ends without an error, the file replaces
    `path`; after an error `path` is unchanged.

    Raises:
        OSError: The new file could not be written, or could not replace `path`.
    """
    descriptor, name = tempfile.mkstemp(prefix=_prefix(path), suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged = Path(name)
        staged.chmod(0o644)
        staged.replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for the block to write. When the block has ended, the content is on the disk."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _replace(new: Path, path: Path) -> None:
    try:
        new.rename(path)  # also replaces an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return
    # Python has no function that exchanges two names. Without one, no directory would be at `path` for a moment.
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is not None:
        result = exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE)
        if result == 0:
            return
    old = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=".old", dir=path.parent))
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _prefix(path: Path) -> str:
    """Return how the name of a temporary neighbour begins: like the path's own, but never too long."""
    return os.fsdecode(os.fsencode(f".{path.name}")[:64]) + "."


def _sync(directory: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync a directory
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
