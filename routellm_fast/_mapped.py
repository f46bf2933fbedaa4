"""Writing of tensors that live each in a safetensors file of its own, which readers map instead of reading it.

`docs/artifact-format.md` says which bytes a file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import check_unchanged, file_of
from routellm_fast.errors import ArtifactFormatError, ArtifactIntegrityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIX: Final = ".safetensors"
# Names need no escape in a header and none in a file system; "weights" is the file of all other tensors.
_NAME: Final = re.compile(r"(?!weights\Z)[A-Za-z0-9_-][A-Za-z0-9_.-]*")
# No bool: a byte that is neither 0 nor 1 would be found by reading it only.
_DTYPES: Final = {
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
# Data that begins on a page is aligned for every kernel, and for readers that pass the page cache by.
_PAGE: Final = 4096
_CHUNK_BYTES: Final = 4 << 20


def check_tensor(name: str, array: NDArray[Any], where: Path) -> None:
    """Raise ArtifactFormatError unless write_tensor can write the array."""
    if not _NAME.fullmatch(name):
        raise ArtifactFormatError(
            f"{where}: {name!r} cannot name a tensor in a file of its own; "
            "expected letters, digits, _ - and inner dots, and not weights"
        )
    if array.dtype.name not in _DTYPES:
        raise ArtifactFormatError(f"{where}: tensor {name} is {array.dtype}; expected one of {', '.join(_DTYPES)}")


def link_tensor(path: Path, name: str, array: NDArray[Any]) -> dict[str, Any] | None:
    """Give the file that an array was mapped from a second name, instead of writing the same once more.

    Returns:
        The file's bytes and sha256 as its manifest stated them; None where the array is no whole tensor of that name
        from a file, or where the file is gone, was changed, or cannot be linked to.
    """
    source = _source_of(name, array)
    if source is None:
        return None
    try:
        # Where a symbolic link led to the file, the file gets the second name, not the link.
        os.link(os.path.realpath(source.path), path, follow_symlinks=False)
        # Looked at afterwards: whatever stands at the source's path by now, this is what was linked.
        if _identity(path.lstat()) != source.identity:
            path.unlink()
            return None
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        return None
    return {"bytes": len(source.header) + array.nbytes, "sha256": source.sha256}


def write_tensor(file: BinaryIO, name: str, array: NDArray[Any], where: Path) -> dict[str, Any]:
    """Write a tensor's file in chunks: the array is never copied whole, whatever its layout.

    Returns:
        The file's bytes and sha256.

    Raises:
        ArtifactIntegrityError: A value is not finite; or the array was mapped from a file whose data is not what its
            manifest stated, or which was changed in place or
            cut off.
    """
    source = _source_of(name, array)
    if source is None:
        check_unchanged(array)
    else:
        source.check_length()  # its digest tells whether it is unchanged
    header = _padded(_header_text(name, array.dtype, array.shape)) if source is None else source.header
    file.write(header)
    digest = hashlib.sha256(header)
    start = 0
    for chunk in _chunks(array):
        bad = first_non_finite(chunk)
        if bad is not None:
            raise non_finite(where, name, chunk[bad], start + bad, array.shape)
        digest.update(chunk.data)
        file.write(chunk.data)
        start += chunk.size
    if source is not None and digest.hexdigest() != source.sha256:
        raise ArtifactIntegrityError(
            f"{source.path} has sha256 {digest.hexdigest()}, its manifest says {source.sha256}: "
            "it was changed, before or since it was loaded, and is not written anew. Use an undamaged copy."
        )
    return {"bytes": len(header) + array.nbytes, "sha256": digest.hexdigest()}


def first_non_finite(values: NDArray[Any]) -> int | None:
    """Return the position of the first value that is NaN or infinite, in C order."""
    if values.dtype.kind != "f":
        return None
    finite = np.isfinite(values)
    return None if finite.all() else int(finite.argmin())


def non_finite(where: Path, name: str, value: Any, position: int, shape: tuple[int, ...]) -> ArtifactIntegrityError:
    """Return the error that names a value, by its position in C order."""
    index = tuple(int(i) for i in np.unravel_index(position, shape))
    return ArtifactIntegrityError(f"{where}: tensor {name} has {value} at {index}; every weight must be finite")


def _header_text(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The JSON that safetensors' own libraries write for a file of one tensor."""
    description = {
        "dtype": _DTYPES[dtype.name],
        "shape": list(shape),
        "data_offsets": [0, math.prod(shape) * dtype.itemsize],
    }
    return json.dumps({name: description}, separators=(",", ":")).encode()


def _padded(text: bytes) -> bytes:
    length = -(8 + len(text)) % _PAGE + len(text)
    return length.to_bytes(8, "little") + text.ljust(length)


def _source_of(name: str, array: NDArray[Any]) -> _core.MappedFile | None:
    """The file that holds exactly this tensor, or None for an array that is a part of one, or comes from elsewhere."""
    file = file_of(array)
    if file is None or not array.flags.c_contiguous:
        return None
    # Arrays over a mapping see its data alone: one with the data's dtype and shape is the whole of it.
    same = file.header[8:].rstrip(b" ") == _header_text(name, array.dtype, array.shape)
    return file if same else None


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The values in C order, little-endian, in contiguous pieces; views where the array allows it."""
    pieces = np.nditer(
        array,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=["readonly"],
        op_dtypes=array.dtype.newbyteorder("<"),
        order="C",
        casting="equiv",
        buffersize=_CHUNK_BYTES // array.itemsize,
    )
    for piece in pieces:
        yield np.ascontiguousarray(piece)
