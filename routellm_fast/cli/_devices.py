"""Devices by name: one vocabulary for all commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from routellm_fast.errors import InvalidArgumentError

# Those of load_router. "auto" takes CUDA where it works and the CPU elsewhere.
DEVICES: Final = ("auto", "cpu", "cuda", "tensorrt")
_OLD_NAMES: Final = {"gpu": "cuda"}


def named_device(name: str, among: Sequence[str] = DEVICES) -> str:
    """Return the device that an option names; an old name becomes the one of today.

    Args:
        name: What the user typed.
        among: The devices of DEVICES that the command can use.

    Raises:
        InvalidArgumentError: The command cannot use it, or there is no such device.
    """
    device = _OLD_NAMES.get(name, name)
    if device not in among:
        raise InvalidArgumentError(f"--device must be one of {', '.join(among)}, found {name!r}")
    return device
