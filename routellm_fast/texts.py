"""Checks the texts that callers pass in, and measures how long they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list. Raises TypeError, which names the element that is not a str."""
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"expected a sequence of str, found one {type(texts).__name__}: put it into a list")
    items = list(texts)
    for index, text in enumerate(items):
        if not isinstance(text, str):
            raise TypeError(f"text {index} must be str, not {type(text).__name__}")
    return items


def word_counts(prompts: Sequence[str]) -> NDArray[np.float64]:
    """Return (n,) the number of words of each prompt, by which the baseline routes that goes by length."""
    return np.array([len(prompt.split()) for prompt in prompts], dtype=np.float64)
