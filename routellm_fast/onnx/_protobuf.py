"""Fields of a protobuf message, one after another, without the classes of the message: nothing is copied.

The graph of a stranger is looked at before a library that builds objects of it gets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from routellm_fast.errors import OnnxModelError

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5
_MOST_VARINT_BYTES: Final = 10


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: an integer below 2^64, or the bytes of text, message or fixed number.

    Raises:
        OnnxModelError: The bytes are no protobuf message, or hold groups, which ONNX does not use.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind == _FIXED64:
            size = 8
        elif kind == _FIXED32:
            size = 4
        else:
            raise OnnxModelError(f"the ONNX graph is damaged: a field of kind {kind} at byte {at}")
        if number == 0 or size > end - at:
            raise OnnxModelError(f"the ONNX graph is damaged or cut: a field of {size:,} bytes, {end - at:,} are left")
        yield number, message[at : at + size]
        at += size


def integers(value: int | memoryview) -> list[int]:
    """Return the signed 64-bit integers of a repeated field: one, or many that are packed."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    end = min(len(message), at + _MOST_VARINT_BYTES)
    value = shift = 0
    for place in range(at, end):
        byte = message[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + 1
        shift += 7
    raise OnnxModelError(f"the ONNX graph is damaged or cut: no number ends at byte {at}")
