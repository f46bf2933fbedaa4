"""Options of `export triton`: which mode takes which, checked before the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from routellm_fast.errors import InvalidArgumentError

from ._triton_config import Batching

MODES: Final = ("native", "python", "onnx", "tensorrt")
GRAPH_MODES: Final = ("onnx", "tensorrt")
# Options that only some modes have a use for.
_TAKEN_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "threads": ("native", "python", "onnx"),
    "inputs": GRAPH_MODES,
    "precision": GRAPH_MODES,
    "prompts": GRAPH_MODES,
    "bound": GRAPH_MODES,
    "device": ("onnx",),
    "runtime": ("tensorrt",),
    "cache": ("tensorrt",),
}
# "gpu" is what "cuda" was called before every command used the same words for devices.
_DEVICES: Final[Mapping[str, bool]] = {"cpu": False, "cuda": True, "gpu": True}


@dataclass(frozen=True, slots=True)
class Serving:
    """How the models of a repository are served, in every mode.

    Attributes:
        name: Name of the model that clients ask; the names of an ensemble's steps begin with it.
        version: Version of every model.
        batching: How requests meet in batches.
        response_cache: Whether Triton may answer equal requests from its cache.
        parameters: Parameters of the model that clients ask: the pair, the default threshold, the calibration.
    """

    name: str
    version: int
    batching: Batching
    response_cache: bool
    parameters: Mapping[str, str]


def check_mode(mode: str, **options: Any) -> None:
    """Raise InvalidArgumentError for an unknown mode, or for an option (not None) that would do nothing in it."""
    if mode not in MODES:
        raise InvalidArgumentError(f"mode is one of {', '.join(MODES)}, found {mode!r}")
    useless = [name for name, value in options.items() if value is not None and mode not in _TAKEN_BY[name]]
    if useless:
        taken = "; ".join(f"{name} is for mode {' or '.join(_TAKEN_BY[name])}" for name in useless)
        raise InvalidArgumentError(f"mode {mode} takes no {' and no '.join(useless)}, found it given: {taken}")


def runs_on_gpu(device: str) -> bool:
    """Return whether a graph runs on a GPU. Raises InvalidArgumentError for an unknown device."""
    if device not in _DEVICES:
        raise InvalidArgumentError(f"device is one of cpu, cuda, found {device!r}")
    return _DEVICES[device]


def batching_of(
    max_batch_size: int, max_queue_delay_us: int, preferred_sizes: Sequence[int], instances: int
) -> Batching:
    """Return how requests meet. Raises InvalidArgumentError."""
    check_integers(
        ("max_batch_size", max_batch_size, 1),
        ("max_queue_delay_us", max_queue_delay_us, 0),
        ("instances", instances, 1),
        *(("preferred_batch_sizes", size, 1) for size in preferred_sizes),
    )
    sizes = tuple(sorted({size for size in preferred_sizes if size <= max_batch_size}))
    return Batching(max_batch_size, max_queue_delay_us, sizes, instances)


def check_integers(*options: tuple[str, Any, int]) -> None:
    """Raise InvalidArgumentError unless each (name, value, least) is an integer of at least the least."""
    for what, number, least in options:
        if type(number) is not int or number < least:
            raise InvalidArgumentError(f"{what} is an integer of at least {least}, found {number!r}")


def check_name(name: str) -> None:
    """Raise InvalidArgumentError unless a text may be a model's name, which is also a folder's."""
    if (
        not name
        or not all(letter.isascii() and (letter.isalnum() or letter in "_-.") for letter in name)
        or name[0] == "."
    ):
        raise InvalidArgumentError(
            f"a model's name is of letters, digits, _, - and ., and does not begin with a dot; found {name!r}"
        )
