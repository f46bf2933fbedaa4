"""The outcome of routing one prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from routellm_fast.errors import InvalidArgumentError, InvalidThresholdError

# What a decision rests on: all of the prompt's text, a part of it (the rest of a long prompt was not read), or none.
Basis = Literal["text", "excerpt", "no_text"]
# What is done with a prompt that has no text.
NoText = Literal["strong", "weak", "score"]
_NO_TEXT: Final = ("strong", "weak", "score")
# The share of prompts that goes to the strong model where nobody says which.
DEFAULT_STRONG_SHARE: Final = 0.5


class ModelPair(NamedTuple):
    """The names of the two models that a router chooses between."""

    strong: str
    weak: str


def checked_pair(strong: str, weak: str) -> ModelPair:
    """Return a pair of models. Raises InvalidArgumentError unless they are two different names, without U+0000."""
    # In C a name ends with its first U+0000: it would be another name there.
    if not all(isinstance(name, str) and name and "\0" not in name for name in (strong, weak)):
        raise InvalidArgumentError(f"a model pair is two names, without zero characters, found {(strong, weak)}")
    if strong == weak:
        raise InvalidArgumentError(
            f"the strong and the weak model are both {strong!r}: there is nothing to choose between. Name two models"
        )
    return ModelPair(strong, weak)


class Decision(NamedTuple):
    """Which model a prompt goes to, and why.

    Attributes:
        model: Name of the chosen model.
        win_rate: The strong model's win rate, in [0, 1].
        threshold: The threshold that the win rate was compared with, in [0, 1].
        is_strong: Whether the strong model was chosen: win_rate >= threshold, unless there was no text.
        basis: What the decision rests on. "text": all of the prompt, as far as is known. "excerpt": a part of a long
            prompt; the rest was not read. "no_text": nothing, since the prompt holds nothing that can be seen; then
            the caller's `no_text` decided, and the win rate says nothing.
    """

    model: str
    win_rate: float
    threshold: float
    is_strong: bool
    basis: Basis = "text"


def decide(
    pair: ModelPair,
    win_rate: float,
    threshold: float,
    basis: Basis = "text",
    no_text: NoText = "score",
    *,
    _new: Callable[..., Decision] = tuple.__new__,
) -> Decision:
    """Choose the strong model when its win rate is at least the threshold, or as `no_text` says where there is none."""
    is_strong = win_rate >= threshold
    if basis == "no_text" and no_text != "score":
        is_strong = no_text == "strong"
    # tuple.__new__ directly: NamedTuple's own __new__ accepts keywords, which doubles the cost of a decision.
    return _new(Decision, (pair[0] if is_strong else pair[1], win_rate, threshold, is_strong, basis))


def basis_of(prompt: str, is_whole: bool) -> Basis:
    """Return what a decision about a prompt rests on, given whether all of it was read."""
    if not has_text(prompt):
        return "no_text"
    return "text" if is_whole else "excerpt"


def has_text(text: str) -> bool:
    """Whether a text holds anything to be seen: blanks, control characters and marks without width are nothing."""
    # Nearly all texts begin with something to be seen.
    return "!" <= text[:1] <= "~" or any(c.isprintable() and not c.isspace() for c in text)


def check_no_text(value: str) -> None:
    """Raise InvalidArgumentError unless the value says what is done with a prompt that has no text."""
    if value not in _NO_TEXT:
        raise InvalidArgumentError(f"no_text is one of {', '.join(_NO_TEXT)}, found {value!r}")


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
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:  # an integer beyond float64, a signalling NaN
        raise InvalidThresholdError(f"{what} is no number in [0, 1]: {error}") from error
    # Written so that NaN fails too.
    if not 0.0 <= number <= 1.0:
        raise InvalidThresholdError(f"{what} {value} is outside [0, 1]")
    return number
