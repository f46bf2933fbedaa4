"""Checks the texts that callers pass in, and measures how long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list.

    Lists, tuples, arrays and columns of tables are taken: what has a length and an order. A set has no order, a mapping
    holds more than texts, and a generator can be read only once, so each of them is refused by its name.

    Raises:
        TypeError: The argument is no such sequence, or an element is not a str; the message names what was found.
    """
    if isinstance(texts, (list, tuple)):
        items = list(texts)
    else:
        _check_sequence(texts)
        items = list(texts)
    for index, text in enumerate(items):
        if not isinstance(text, str):
            raise TypeError(
                f"text {index} must be str, not {type(text).__name__}. "
                "Chat messages become text with routellm_fast.prompt.text_of()."
            )
    return items


def _check_sequence(texts: Any) -> None:
    name = type(texts).__name__
    if isinstance(texts, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"expected a sequence of str, found one {name}: put it into a list")
    if isinstance(texts, Mapping):
        raise TypeError(f"expected a sequence of str, found a {name}: give a list of its texts")
    if not (hasattr(texts, "__len__") and hasattr(texts, "__getitem__")):
        advice = ": list() makes one of it" if hasattr(texts, "__iter__") else ""
        raise TypeError(f"expected a sequence of str, such as a list, found {name}{advice}")
    if getattr(texts, "ndim", 1) != 1:
        raise TypeError(f"expected a sequence of str, found a {name} of {texts.ndim} dimensions: give one column of it")


def word_counts(prompts: Sequence[str]) -> NDArray[np.float64]:
    """Return (n,) the number of words of each prompt, by which the baseline routes that goes by length."""
    return np.array([len(prompt.split()) for prompt in prompts], dtype=np.float64)
