"""Checks values that were read from JSON. Each fault is an InvalidArgumentError whose text calls the value `what`."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from routellm_fast.errors import InvalidArgumentError


def fields(value: Any, what: str, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """Return a JSON object after checking that it has all required keys and no unknown ones."""
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{what} must be an object, found {type(value).__name__}")
    missing, unknown = sorted(set(required) - set(value)), sorted(set(value) - set(required) - set(optional))
    if missing or unknown:
        expected = ", ".join(required) + (f" and optionally {', '.join(optional)}" if optional else "")
        raise InvalidArgumentError(
            f"{what} must hold {expected}; missing {missing or 'nothing'}, unknown {unknown or 'nothing'}"
        )
    return value


def text(value: Any, what: str) -> str:
    """Return a value after checking that it is a string."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} must be a string, found {type(value).__name__}")
    return value


def number(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a value as float after checking that it is a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgumentError(f"{what} must be a number, found {type(value).__name__}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or not low <= result <= high:
        bounds = "" if low == -math.inf else f" in [{low:g}, {high:g}]" if high < math.inf else f" of at least {low:g}"
        raise InvalidArgumentError(f"{what} must be a finite number{bounds}, found {result:g}")
    return result


def rising(value: Any, what: str, *, strictly: bool = False) -> tuple[float, ...]:
    """Return a list after checking that it holds two or more numbers in [0, 1] that never fall, or rise strictly."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise InvalidArgumentError(f"{what} must be a list of two numbers or more")
    result = tuple(number(entry, f"each of {what}", 0.0, 1.0) for entry in value)
    if not all(a < b if strictly else a <= b for a, b in pairwise(result)):
        raise InvalidArgumentError(f"{what} must {'rise strictly' if strictly else 'never fall'}")
    return result
