"""Reads tensors from safetensors files that other programs wrote, bfloat16 included."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors

from routellm_fast.errors import ArtifactFormatError
from routellm_fast.memory import ask_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BFLOAT16: Final = "BF16"
# The types of numbers that numpy has. Not among them are bfloat16, which is read as float32, and floats of 4 to 8 bits.
_NUMPY_TYPES: Final = {
    "I8": "<i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "<u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def read_tensors(content: bytes, path: Path, *, wanted: Collection[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the tensors of these names that a file holds, and the names of all its tensors, sorted.

    A bfloat16 tensor is returned as float32, which holds the same values exactly. Tensors that are not wanted may be of
    any type.

    Args:
        content: The bytes of the file.
        path: Where the file is, for messages.
        wanted: Names of tensors; a file need not hold all of them.

    Raises:
        ArtifactFormatError: The file is damaged, or a wanted tensor has another type than these numbers.
    """
    deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize
    ask_for(len(content))  # the copy that it makes
    try:
        entries = dict(deserialize(content))
    except (safetensors.SafetensorError, ValueError) as error:
        raise ArtifactFormatError(f"{path} is no safetensors file that can be read ({error})") from error
    return {name: _array_of(entry, name, path) for name, entry in entries.items() if name in wanted}, sorted(entries)


def _array_of(entry: dict[str, Any], name: str, path: Path) -> NDArray[Any]:
    dtype, data = entry["dtype"], entry["data"]
    shape: tuple[int, ...] = tuple(entry["shape"])
    if dtype == _BFLOAT16:  # the upper half of a float32
        upper: NDArray[np.uint16] = np.frombuffer(data, "<u2")
        return (upper.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype not in _NUMPY_TYPES:
        raise ArtifactFormatError(
            f"{path}: tensor {name} has the type {dtype}; expected {_BFLOAT16} or one of {', '.join(_NUMPY_TYPES)}. "
            "Convert it to F32, F16 or BF16."
        )
    return np.frombuffer(data, _NUMPY_TYPES[dtype]).reshape(shape)
