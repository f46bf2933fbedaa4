"""The arrays that pass between packages, and how objects that hold long ones are shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from routellm_fast import _core

# What numpy.typing.NDArray[np.float32] stands for; importing that module takes longer than all of ours.
FloatArray = np.ndarray[Any, np.dtype[np.float32]]


def is_masked(values: Any) -> bool:
    """Whether values are numpy's masked array: what reads it as an array would take masked values for numbers."""
    # Whoever has made one has imported the module.
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(values, masked.MaskedArray)


def file_of(array: Any) -> _core.MappedFile | None:
    """Return the file of a router directory that the array, or what it is a part of, is mapped from."""
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, _core.MappedFile) else None


def check_unchanged(array: Any) -> None:
    """Refuse an array that is mapped from a file which was changed in place since it was loaded.

    To be called before much of an array is read: reading behind the end of a file ends the process.

    Raises:
        ArtifactIntegrityError: The file was written to or cut off.
    """
    file = file_of(array)
    if file is not None:
        file.check_unchanged()


_SHOWN_ITEMS: Final = 4
_SHOWN_CHARS: Final = 60


def brief_repr(value: Any) -> str:
    """Return a dataclass's repr on one line; a class uses it as its __repr__.

    Long contents are shown by their size, and empty fields are left out.
    """
    fields = type(value).__dataclass_fields__.values()
    entries = [(entry.name, getattr(value, entry.name)) for entry in fields if entry.repr]
    shown = [f"{name}={_brief(entry)}" for name, entry in entries if entry is not None and not _is_empty(entry)]
    return f"{type(value).__qualname__}({', '.join(shown)})"


def _is_empty(value: Any) -> bool:
    return isinstance(value, (str, tuple, list, Mapping)) and not value


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} array of shape {value.shape}>"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, Mapping):
        names = [str(name) for name in list(value)[:_SHOWN_ITEMS]]
        shown = ", ".join(names + ["…"] * (len(value) > len(names)))
        return f"<{len(value):,} entries: {shown}>"
    if isinstance(value, (tuple, list)) and len(value) > _SHOWN_ITEMS:
        return f"<{len(value):,} entries>"
    shown = repr(value)
    if len(shown) <= _SHOWN_CHARS:
        return shown
    return f"<{len(value):,} entries>" if isinstance(value, (tuple, list)) else f"{shown[: _SHOWN_CHARS - 1]}…"
