"""Checks the texts that callers pass in."""

from __future__ import annotations

from collections.abc import Sequence


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list. Raises TypeError, which names the element that is not a str."""
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"expected a sequence of str, found one {type(texts).__name__}: put it into a list")
    items = list(texts)
    for index, text in enumerate(items):
        if not isinstance(text, str):
            raise TypeError(f"text {index} must be str, not {type(text).__name__}")
    return items
