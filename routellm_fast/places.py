"""Where a result may go: what stands there, and whether it can be written. Asked before the work, not after it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from routellm_fast.errors import OutputExistsError

_MOST_LINKS: Final = 40


def check_writable(folder: Path) -> None:
    """Check that files can be written in a folder, or that a missing folder can be made.

    The check makes a file without a name where the file system can do that, so that a process that is killed leaves
    nothing; else a temporary folder, which is removed.

    Raises:
        OSError: Neither is possible.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError:  # the system call is refused here, or all writing is: a folder says which
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=folder):
            pass


def check_vacant(path: Path, *, force: bool) -> None:
    """Refuse to replace what stands where a result should go.

    An empty folder is nothing, and so is what is written to and not replaced: a device, a FIFO, /dev/stdout.

    Args:
        path: Where a file or a folder should go.
        force: Whether it may be replaced.

    Raises:
        OutputExistsError: Something stands there, and force is false.
    """
    try:
        taken = not force and path.exists() and not holds_nothing(path) and not is_stream(path)
    except OSError:  # it cannot be looked at: the check whether it can be written names the reason
        return
    if taken:
        raise OutputExistsError(f"{path} exists already. Choose another path, or replace it: --force (force=True)")


def holds_nothing(path: Path) -> bool:
    """Say whether a path leads to an empty folder. Raises OSError where it cannot be looked at."""
    return path.is_dir() and not any(path.iterdir())


def destination(path: Path) -> Path:
    """Return the absolute path that symbolic links lead to; nothing need stand there.

    Raises:
        OSError: The links lead in a circle.
    """
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        found.stat()  # says why it leads nowhere
    return found


def is_stream(path: Path) -> bool:
    """Say whether a path leads to what is written to and cannot be replaced: a device, a FIFO, /dev/stdout."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or descriptor_link(path) is not None


def descriptor_link(path: Path) -> Path | None:
    """Return the link in /proc/<process>/fd that a path leads to, as /dev/stdout does; None where there is none.

    Such a link leads to an open file, whose name may by now be another file's.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            break
        folder = Path(os.path.realpath(path.parent))
        if folder.is_relative_to("/proc") and folder.name == "fd":
            return folder / path.name
        path = path.parent / path.readlink()
    return None
