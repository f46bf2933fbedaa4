"""The outcome of routing one prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from routellm_fast.errors import InvalidThresholdError


class ModelPair(NamedTuple):
    """The names of the two models that a router chooses between."""

    strong: str
    weak: str


class Decision(NamedTuple):
    """Which model a prompt goes to, and why.

    Attributes:
        model: Name of the chosen model.
        win_rate: The strong model's win rate, in [0, 1].
        threshold: The threshold that the win rate was compared with, in [0, 1].
        is_strong: Whether the strong model was chosen: win_rate >= threshold.
    """

    model: str
    win_rate: float
    threshold: float
    is_strong: bool


def decide(
    pair: ModelPair, win_rate: float, threshold: float, *, _new: Callable[..., Decision] = tuple.__new__
) -> Decision:
    """Choose the strong model when its win rate is at least the threshold."""
    is_strong = win_rate >= threshold
    # tuple.__new__ directly: NamedTuple's own __new__ accepts keywords, which doubles the cost of a decision.
    return _new(Decision, (pair[0] if is_strong else pair[1], win_rate, threshold, is_strong))


def check_share(value: float, what: str) -> float:
    """Return a number in [0, 1] as float.

    Args:
        value: The number to check.
        what: What the error's text calls the number.

    Raises:
        TypeError: The value is not a number.
        InvalidThresholdError: The value is outside [0, 1] or NaN.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} must be a number in [0, 1], not {type(value).__name__}")
    number = float(value)
    # Written so that NaN fails too.
    if not 0.0 <= number <= 1.0:
        raise InvalidThresholdError(f"{what} {value} is outside [0, 1]")
    return number
