"""The names of devices that all commands use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from routellm_fast.errors import InvalidArgumentError

# The devices of load_router. "auto" takes CUDA where it works, else the CPU.
DEVICES: Final = ("auto", "cpu", "cuda", "tensorrt")
_OLD_NAMES: Final = {"gpu": "cuda"}


def named_device(name: str, among: Sequence[str] = DEVICES) -> str:
    """Return the device that an option names; an old name is replaced by the present one.

    Args:
        name: What the user typed.
        among: The devices that the command can use, some of DEVICES.

    Raises:
        InvalidArgumentError: There is no such device, or the command cannot use it.
    """
    device = _OLD_NAMES.get(name, name)
    if device not in among:
        raise InvalidArgumentError(f"--device must be one of {', '.join(among)}, found {name!r}")
    return device
