"""Files that ONNX Runtime maps: a change in place would give other numbers, or end the process."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable
from pathlib import Path

from routellm_fast.errors import OnnxModelError


class WatchedFiles:
    """Files of a folder that are mapped, and kept open: changes are found wherever their names lead by then."""

    def __init__(self, folder: Path | None) -> None:
        """Note the state of the folder's files, before anything is read of them; None for no files."""
        self._states: dict[Path, tuple[int, int, int]] = {}
        self._open: dict[int, tuple[Path, tuple[int, int, int]]] = {}
        weakref.finalize(self, _close, self._open)
        for path in () if folder is None else sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                self._states[path] = _state(path.stat())

    def open_mapped(self) -> None:
        """Keep those open that this process has mapped by now: what was read is not changed any more.

        Raises:
            OnnxModelError: One was changed since its state was noted, or cannot be opened.
        """
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        mapped = {int(line.split(maxsplit=5)[4]) for line in lines}
        for path, state in self._states.items():
            if state[0] in mapped:
                try:
                    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError as error:
                    raise OnnxModelError(f"{path} cannot be kept open ({error.strerror or error})") from error
                self._open[descriptor] = path, state
        self._states.clear()
        self.check()

    def check(self) -> None:
        """Raise OnnxModelError where a file was written to or cut off since its state was noted."""
        for descriptor, (path, state) in self._open.items():
            if _state(os.fstat(descriptor)) != state:
                raise OnnxModelError(
                    f"{path} was changed in place while it is in use: what it holds now was not checked, and nothing "
                    "is computed with it. Load the graph again; next time, replace the folder by another one (mv), "
                    "never its files' contents (cp, rsync --inplace)."
                )


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
