"""Options that another one beats: it costs no more, is no worse, and is better in one of the two."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Sums of the same numbers in another order differ by less than this.
_ROUNDING: Final = 1e-9


def dominators(
    costs: NDArray[np.float64],
    qualities: NDArray[np.float64],
    rival_costs: NDArray[np.float64],
    rival_qualities: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Return, for each of k options, the rival that dominates it, or -1 where none does.

    A rival dominates an option that costs at least as much and is at most as good, unless both are equal. Where several
    do, the best of them is returned, the cheapest of equally good ones; no other rival dominates that one.

    Args:
        costs: (k,) or (n, k) costs of the options, in any unit.
        qualities: (k,) or (n, k) how good they are; more is better.
        rival_costs: (m,) or (n, m) costs of the rivals, in the same unit. An option may be a rival too.
        rival_qualities: (m,) or (n, m) how good the rivals are.

    Returns:
        (k,) or (n, k) indices of rivals.
    """
    cost, quality = (np.asarray(values)[..., :, None] for values in (costs, qualities))
    rival_cost, rival_quality = (np.asarray(values)[..., None, :] for values in (rival_costs, rival_qualities))
    room = _ROUNDING * np.maximum(np.abs(cost), 1.0), _ROUNDING * np.maximum(np.abs(quality), 1.0)
    is_no_worse = (rival_cost <= cost + room[0]) & (rival_quality >= quality - room[1])
    is_better = (rival_cost < cost - room[0]) | (rival_quality > quality + room[1])
    dominates = is_no_worse & is_better
    best = np.where(dominates, rival_quality, -np.inf).max(axis=-1, keepdims=True)
    candidates = dominates & (rival_quality >= best - room[1])
    found = np.where(candidates, rival_cost, np.inf).argmin(axis=-1)
    return np.where(dominates.any(axis=-1), found, -1)
