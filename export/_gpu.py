"""Asks the driver which GPU this machine has, without any library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_SUCCESS: Final = 0
_CAPABILITY_MAJOR: Final = 75
_CAPABILITY_MINOR: Final = 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its driver.

    Attributes:
        name: E.g. "NVIDIA L4".
        compute_capability: E.g. "8.9".
        driver: The CUDA version that the driver has, e.g. 13000.
    """

    name: str
    compute_capability: str
    driver: int


def current_gpu() -> Gpu | None:
    """Return the first GPU, or None where there is none or no driver."""
    try:
        cuda: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, driver, major, minor = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(256)
    calls: tuple[Callable[[], int], ...] = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDriverGetVersion(ctypes.byref(driver)),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device),
    )
    if any(call() != _SUCCESS for call in calls):
        return None
    return Gpu(name.value.decode("utf-8", "replace"), f"{major.value}.{minor.value}", driver.value)
