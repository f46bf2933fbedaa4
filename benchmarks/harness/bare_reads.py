"""Bare streaming reads of an array: the memory's speed, the yardstick of anything that looks at every byte once.

Several, because none is the fastest everywhere; the fastest of a run is its yardstick. (Not among them: float32 sum,
crc32 and a memcmp with a copy, which are bound by arithmetic or read two streams.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MEMCHR: Final = "memchr of an absent byte"
# Left out of arrays for memchr to look for in vain.
ABSENT_BYTE: Final = 0xA5
_BLOCK: Final = 1 << 24


def leave_out_a_byte(array: NDArray[np.float32]) -> None:
    """Change an array of ordinary numbers in place, each by a hundredth at most, so that no byte is ABSENT_BYTE."""
    octets = array.view(np.uint8).reshape(-1)
    for begin in range(0, len(octets), _BLOCK):  # a mask of gigabytes would be as large as the array
        block = octets[begin : begin + _BLOCK]
        block[block == ABSENT_BYTE] = ABSENT_BYTE - 1


def readers(array: NDArray[np.float32]) -> dict[str, Callable[[], Any]]:
    """Return calls that read all bytes of a C-contiguous array without ABSENT_BYTE once, on one thread."""
    flat, words, octets = array.reshape(-1), array.view(np.uint64).reshape(-1), array.view(np.uint8).reshape(-1)
    memchr = ctypes.CDLL(None).memchr
    memchr.argtypes, memchr.restype = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t), ctypes.c_void_p
    address, size = array.ctypes.data, array.nbytes
    return {
        "numpy max of float32": flat.max,
        "numpy max of uint8": octets.max,
        "numpy xor of uint64": lambda: np.bitwise_xor.reduce(words),
        "BLAS dot with itself": lambda: flat.dot(flat),
        MEMCHR: lambda: memchr(address, ABSENT_BYTE, size),
    }
