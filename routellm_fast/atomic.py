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

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def staged_directory(path: Path) -> Iterator[Path]:
    """Write a directory of files so that readers see the old one or the new one, also after a crash.

    The block fills a sibling directory with synced files. When it ends without an error, that takes the place of `path`
    in one step; otherwise what stood at `path` still stands there. Nothing is left beside it.

    Raises:
        OSError: The directory could not be made, or not put in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
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
    """Find out before long work whether files can be made in a folder, or it can be made itself. Nothing is left there.

    Raises:
        OSError: They cannot.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=folder):
        pass


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file so that readers see the old one or the new one, also after a crash.

    The block fills a file of another name beside it, which then takes its place; after an error nothing has changed.

    Raises:
        OSError: The file could not be written, or not put in its place.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
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
    """Open a new file for the block to write; at its end the content is on the disk."""
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
    # Python has no exchange of two names; without it the old directory would have to vanish for a moment.
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is not None:
        result = exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE)
        if result == 0:
            return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(directory: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to sync a directory
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
