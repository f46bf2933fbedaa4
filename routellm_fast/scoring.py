"""Win rates of many prompts, batch by batch, and what win rates must be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import InvalidArgumentError

# Told of a long run: what is being done, how much of it is done, and how much there is.
OnStep = Callable[[str, int, int], None]
# Of a win rate that a graph computes in bfloat16, the coarsest type.
_ROUNDING: Final = 0.01


def score_in_batches(
    win_rates: Callable[[Sequence[str]], NDArray[Any]],
    prompts: Sequence[str],
    *,
    batch: int,
    name: str = "the router",
    source: str = "",
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[Any]:
    """Score prompts batch by batch, so that a progress bar moves and no call grows without limit.

    Args:
        win_rates: Returns (n,) numbers for n prompts: `router.win_rates`, or anything that scores like it.
        prompts: n prompts.
        batch: The most prompts to score in one call, >= 1.
        name: Names what scores, for the error's text.
        source: Names what the prompts come from, likewise; "" says nothing of it.
        on_progress: Called with the number of prompts scored so far and their total: before the first batch and after
            each one.

    Returns:
        (n,) scores, of the type that `win_rates` returns; float32 for no prompts.

    Raises:
        InvalidArgumentError: A batch does not yield one finite number for each prompt.
    """
    parts = []
    for start in range(0, len(prompts), batch):
        if on_progress is not None:
            on_progress(start, len(prompts))
        asked = prompts[start : start + batch]
        part = np.asarray(win_rates(asked))
        if part.shape != (len(asked),) or not np.isfinite(part).all():
            bad = "" if part.shape != (len(asked),) else f", {int((~np.isfinite(part)).sum())} of them not finite"
            raise InvalidArgumentError(
                f"{name} gave win rates of shape {part.shape} for {len(asked)} prompts"
                f"{source and f' of {source}'}{bad}; expected one finite number for each prompt"
            )
        parts.append(part)
    if on_progress is not None:
        on_progress(len(prompts), len(prompts))
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def check_win_rates(win_rates: NDArray[Any]) -> None:
    """Refuse what is no (n,) array of win rates in [0, 1], n >= 1. Raises InvalidArgumentError."""
    if win_rates.ndim != 1 or win_rates.size == 0:
        raise InvalidArgumentError(f"expected a (n,) array of win rates, n >= 1, found shape {win_rates.shape}")
    wrong = np.flatnonzero(~((win_rates >= 0.0) & (win_rates <= 1.0)))
    if wrong.size:
        raise InvalidArgumentError(f"win rates lie in [0, 1]; number {wrong[0]} is {win_rates[wrong[0]]}")


def first_outside(win_rates: NDArray[Any]) -> int | None:
    """Return the place of the first of a graph's (n,) results that is outside [0, 1] by more than rounding; else None.

    NaN is not found.
    """
    outside = np.abs(win_rates - 0.5) > 0.5 + _ROUNDING
    return int(np.argmax(outside)) if outside.any() else None
