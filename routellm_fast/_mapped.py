"""Tensors that live each in a safetensors file of its own, mapped instead of read.

Loading looks at a file's header and size only: data is read by whoever uses it, page by page, and processes share one
copy of it. `docs/artifact-format.md` says which bytes a file holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

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
_BORDER: Final = 64
_MAX_HEADER_BYTES: Final = 64 << 10
_MAX_DIMENSIONS: Final = 32  # NumPy's limit, before version 2
_CHUNK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class _Source:
    """The file behind a mapping, as it was when it was opened."""

    path: Path
    identity: tuple[int, ...]
    header: bytes
    sha256: str


class _Mapping(mmap.mmap):
    """A mapping that knows its file. An array over it leads here by its `base`, whoever hands it on."""

    source: _Source


def check_tensor(name: str, array: NDArray[Any], where: Path) -> None:
    """Raise ArtifactFormatError unless write_tensor can write the array."""
    if not _NAME.fullmatch(name):
        raise ArtifactFormatError(
            f"{where}: {name!r} cannot name a tensor in a file of its own; "
            "expected letters, digits, _ - and inner dots, and not weights"
        )
    if array.dtype.name not in _DTYPES:
        raise ArtifactFormatError(f"{where}: tensor {name} is {array.dtype}; expected one of {', '.join(_DTYPES)}")


def check_entry(name: str, entry: Any, where: Path) -> None:
    """Raise ArtifactFormatError unless a manifest's entry describes a tensor in a file of its own."""
    fits = _NAME.fullmatch(name) and isinstance(entry, dict) and set(entry) == {"dtype", "shape", "file"}
    fits = fits and entry["file"] == name + SUFFIX and isinstance(entry["dtype"], str) and entry["dtype"] in _DTYPES
    if not fits or not _is_shape(entry["shape"]):
        raise ArtifactFormatError(
            f"{where}: tensors.{name} must be an object of dtype (one of {', '.join(_DTYPES)}), "
            f"shape (a list of counts) and file (the name and {SUFFIX}), found {str(entry)[:200]}"
        )


def map_tensor(
    descriptor: int, path: Path, name: str, entry: Mapping[str, Any], recorded: Mapping[str, Any]
) -> NDArray[Any]:
    """Map a tensor's file read-only, after a look at its size and header. The data is not read.

    Args:
        descriptor: The open file; may be closed afterwards.
        path: Where it was found.
        name: The tensor's name.
        entry: The manifest's description of the tensor, as check_entry accepts it.
        recorded: The manifest's bytes and sha256 of the file.

    Raises:
        ArtifactIntegrityError: The file has another size than recorded, or cannot be mapped.
        ArtifactFormatError: Its header is not the one that the description gives.
    """
    status = os.fstat(descriptor)
    if status.st_size != recorded["bytes"]:
        raise ArtifactIntegrityError(
            f"{path} has bytes {status.st_size}, the manifest says {recorded['bytes']}: "
            "it is truncated or was changed. Copy or save the directory again."
        )
    dtype, shape = np.dtype(entry["dtype"]).newbyteorder("<"), tuple(entry["shape"])
    try:
        header = _read_header(descriptor, path)
        _check_header(header, _header_text(name, dtype, shape), path)
        if len(header) + math.prod(shape) * dtype.itemsize != status.st_size:
            raise ArtifactFormatError(
                f"{path} has {status.st_size} bytes; a header of {len(header)} and "
                f"{entry['dtype']} {list(shape)} make {len(header) + math.prod(shape) * dtype.itemsize}"
            )
        mapping = _Mapping(descriptor, status.st_size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ArtifactIntegrityError(f"{path} cannot be mapped ({error.strerror})") from error
    mapping.source = _Source(path.absolute(), _identity(status), header, recorded["sha256"])
    try:
        array: NDArray[Any] = np.ndarray(shape, dtype, buffer=mapping, offset=len(header))
    except (ValueError, OverflowError) as error:  # a count of 0 beside others that are beyond all memory
        raise ArtifactFormatError(f"{path}: no array has the shape {list(shape)} ({error})") from error
    return array


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
        os.link(source.path, path, follow_symlinks=False)
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
            manifest stated.
    """
    source = _source_of(name, array)
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


def verify_tensor(
    descriptor: int,
    path: Path,
    name: str,
    array: NDArray[Any],
    recorded: Mapping[str, Any],
    on_bytes: Callable[[int], None],
) -> None:
    """Read a tensor's file, in bounded memory, and check its digest and that every value is finite.

    It is read and not looked at through the mapping: a disk that fails is then an error and no signal.

    Args:
        descriptor: The open file; stays open.
        path: Where it was found.
        name: The tensor's name.
        array: What map_tensor made of the file.
        recorded: The manifest's bytes and sha256 of the file.
        on_bytes: Called with the number of bytes of each piece that was read.

    Raises:
        ArtifactIntegrityError: The digest differs, a value is not finite, or the file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    bad: tuple[Any, int] | None = None
    start = 0
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            header = file.read(recorded["bytes"] - array.nbytes)
            digest.update(header)
            on_bytes(len(header))
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                chunk = np.frombuffer(buffer[: count - count % array.itemsize], dtype=array.dtype)
                position = first_non_finite(chunk) if bad is None else None
                if position is not None:
                    bad = chunk[position], start + position
                start += chunk.size
                on_bytes(count)
    except OSError as error:
        raise ArtifactIntegrityError(f"{path} cannot be read ({error.strerror})") from error
    # The digest first: where it differs, a value that is not finite is but a consequence.
    if digest.hexdigest() != recorded["sha256"]:
        raise ArtifactIntegrityError(
            f"{path} has sha256 {digest.hexdigest()}, the manifest says {recorded['sha256']}: "
            "it was changed. Copy or save the directory again."
        )
    if bad is not None:
        raise non_finite(path.parent, name, *bad, array.shape)


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


def _is_shape(value: Any) -> bool:
    fits = isinstance(value, list) and len(value) <= _MAX_DIMENSIONS
    return fits and all(type(count) is int and 0 <= count < 1 << 63 for count in value)


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


def _read_header(descriptor: int, path: Path) -> bytes:
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if length > _MAX_HEADER_BYTES:
        raise ArtifactFormatError(f"{path}: its header claims {length} bytes; at most {_MAX_HEADER_BYTES} are allowed")
    return os.pread(descriptor, 8 + length, 0)


def _check_header(header: bytes, expected: bytes, path: Path) -> None:
    found = header[8:].rstrip(b" ")
    if found != expected:
        raise ArtifactFormatError(
            f"{path}: its header is {found[:200]!r}, the manifest says {expected!r}. Copy or save the directory again."
        )
    if len(header) % _BORDER or len(header) != 8 + int.from_bytes(header[:8], "little"):
        raise ArtifactFormatError(
            f"{path}: its data begins at byte {len(header)}; expected a multiple of {_BORDER} behind the header"
        )


def _source_of(name: str, array: NDArray[Any]) -> _Source | None:
    """The file that holds exactly this tensor, or None for an array that is a part of one, or comes from elsewhere."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, _Mapping) or not array.flags.c_contiguous:
        return None
    # Arrays over a mapping see its data alone: one with the data's dtype and shape is the whole of it.
    same = owner.source.header[8:].rstrip(b" ") == _header_text(name, array.dtype, array.shape)
    return owner.source if same else None


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
