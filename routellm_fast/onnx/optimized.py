"""Graphs as ONNX Runtime optimized them for this machine: kept, so that later starts skip that work."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from routellm_fast.atomic import staged_directory
from routellm_fast.errors import ArtifactFormatError, OnnxModelError
from routellm_fast.json_file import parse_json
from routellm_fast.owned import Owned

WEIGHTS_FILE: Final = "weights.bin"
_GRAPH_FILE: Final = "graph.onnx"
_CHECKSUMS_FILE: Final = "checksums.json"
# The folder's name is a digest that only this module gives: of its files, these are ours.
_OWNED: Final = Owned(_CHECKSUMS_FILE, frozenset({_GRAPH_FILE, WEIGHTS_FILE, _CHECKSUMS_FILE}))
_CHUNK_BYTES: Final = 1 << 20
_LOGGER: Final = logging.getLogger(__name__)


class OptimizedModels:
    """A directory of optimized graphs, by the digest of the original, the runtime's version and the processor.

    Weights are in a file of their own, which the runtime maps instead of parsing and copying it: most of a start's time
    is saved by that. What is kept is believed only with its checksums beside it: a damaged file is made again, never
    run. (The directory is the user's own: a checksum guards against accidents, and takes less time than a digest.) A
    directory that cannot be written costs time, not the session.
    """

    def __init__(self, folder: Path, version: str) -> None:
        """Take a directory, which need not exist, and the runtime's version."""
        self._folder = folder
        self._machine = f"onnxruntime {version}; {platform.machine()}; {_processor()}"

    def open(
        self,
        model: bytes,
        create: Callable[[bytes | Path, Path | None, bool], Any],
        *,
        model_sha256: str | None = None,
    ) -> Any:
        """Return a session of the kept graph, or make one and keep what it made.

        Args:
            model: The original.
            create: Makes a session of a graph; takes where to write what it optimized, with weights beside it in
                WEIGHTS_FILE, None for nowhere, and whether the graph is optimized already.
            model_sha256: The original's digest, if known.
        """
        digest = model_sha256 or hashlib.sha256(model).hexdigest()
        kept = self._folder / hashlib.sha256(f"{digest} {self._machine}".encode()).hexdigest()[:32]
        before = _stamps(kept)
        if _is_whole(kept):
            try:
                session = create(kept / _GRAPH_FILE, None, True)
                if _stamps(kept) == before:
                    return session
                _LOGGER.warning("%s was changed while it was read, and is made again", kept)
            except OnnxModelError as error:
                _LOGGER.warning("%s was refused by the runtime, and is made again: %s", kept, error)
        session = None
        try:
            with staged_directory(kept, lambda _: _OWNED) as staging:
                session = create(model, staging / _GRAPH_FILE, False)
                sums = {path.name: _checksum(path) for path in sorted(staging.iterdir())}
                (staging / _CHECKSUMS_FILE).write_text(json.dumps(sums), encoding="ascii")
        except OSError as error:
            _LOGGER.warning("%s could not be kept: %s", kept, error)
        return create(model, None, False) if session is None else session


def _is_whole(kept: Path) -> bool:
    try:
        sums = parse_json((kept / _CHECKSUMS_FILE).read_bytes(), _CHECKSUMS_FILE)
    except FileNotFoundError:
        return False
    except (OSError, ArtifactFormatError) as error:
        _LOGGER.warning("%s is damaged, and is made again: %s", kept, error)
        return False
    try:
        whole = _GRAPH_FILE in sums and all(_checksum(kept / Path(name).name) == found for name, found in sums.items())
    except (OSError, TypeError, AttributeError):
        whole = False
    if not whole:
        _LOGGER.warning("%s is damaged, and is made again", kept)
    return whole


def _stamps(kept: Path) -> list[tuple[str, int, int, int]]:
    """What changes where a file is written to or replaced."""
    try:
        states = [(path.name, path.stat()) for path in sorted(kept.iterdir())]
    except OSError:
        return []
    return [(name, state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states]


def _checksum(path: Path) -> str:
    """Return the size and CRC-32 of a file, which is read and not mapped: it may be cut off meanwhile."""
    size, checksum = 0, 0
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            checksum = zlib.crc32(buffer[:count], checksum)
            size += count
    return f"{size} {checksum:08x}"


def _processor() -> str:
    """Say what instructions there are: optimized graphs may use layouts that suit them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
