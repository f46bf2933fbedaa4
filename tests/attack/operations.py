"""Work that kills itself just before one of its operations on files: a kill between any two of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.attack.kills import killed

# What Python tells its audit hooks of: on a path, and without one.
_ON_A_PATH: Final = frozenset(
    {"open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.listxattr", "os.mkdir", "os.remove", "os.rename",
     "os.rmdir", "os.scandir", "os.symlink", "os.utime"}
)  # fmt: skip
_ON_NONE: Final = frozenset({"ctypes.dlopen", "fcntl.flock"})


def operations(work: Callable[[], object], folder: Path) -> int:
    """Run the work in a forked child; return how many operations on files of a folder it takes."""
    tally = folder.parent / f"{folder.name}.operations"

    def counted() -> None:
        count = _watched(folder, None)
        work()
        found = count()
        tally.write_text(str(found), encoding="ascii")

    assert not killed(counted, 600.0), "the work did not end in 600 s"
    found = int(tally.read_text(encoding="ascii"))
    tally.unlink()
    return found


def dying(work: Callable[[], object], folder: Path, operation: int) -> Callable[[], None]:
    """Return the work as one that kills itself just before an operation, counted from 1, on files of a folder."""

    def run() -> None:
        _watched(folder, operation)
        work()

    return run


def _watched(folder: Path, last: int | None) -> Callable[[], int]:
    """Count the operations of this process from now on, and end it at the last one. Returns what tells the count."""
    seen = 0
    place = os.fspath(folder)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        is_meant = event in _ON_NONE or (
            event in _ON_A_PATH
            and isinstance(arguments[0], (str, bytes))
            and os.fsdecode(arguments[0]).startswith(place)
        )
        if is_meant:
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return lambda: seen
