"""What the fuzzers of Python's readers share: coverage of the package, a folder in memory, damage."""

from __future__ import annotations

import atexit
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

# Files are written for each input: in memory where the system has such a folder, since some readers and writers sync.
_IN_MEMORY = Path("/dev/shm")


def workspace() -> Path:
    """Return a new folder that goes when the process ends."""
    shared = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="routellm-fuzz-", dir=shared))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def instrument() -> None:
    """Let atheris see which branches of the package an input takes, in functions and methods.

    Not instrument_imports: an editable install has a loader of its own, which that does not see through.
    """
    for module in [module for name, module in sys.modules.items() if name.startswith("routellm_fast.")]:
        for value in list(vars(module).values()):
            if getattr(value, "__module__", "").startswith("routellm_fast."):
                _instrument(value)


def _instrument(value: Any) -> None:
    if inspect.isclass(value):
        for member in vars(value).values():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if inspect.isfunction(function) and not hasattr(function, "__wrapped__"):
                _instrument_once(function)
    elif inspect.isfunction(value):
        _instrument_once(value)


_SEEN: set[int] = set()


def _instrument_once(function: Any) -> None:
    if id(function.__code__) not in _SEEN and not function.__code__.co_filename.startswith("<"):
        atheris.instrument_func(function)
        _SEEN.add(id(function.__code__))


def damage(content: bytes, data: atheris.FuzzedDataProvider, *, keeps_size: bool = False) -> bytes:
    """Return content in which one to four pieces were replaced by other bytes."""
    result = bytearray(content)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        position = data.ConsumeIntInRange(0, len(result))
        inserted = data.ConsumeBytes(data.ConsumeIntInRange(0, 64))
        inserted = inserted[: len(result) - position] if keeps_size else inserted
        removed = len(inserted) if keeps_size else data.ConsumeIntInRange(0, 64)
        result[position : position + removed] = inserted
    return bytes(result)
