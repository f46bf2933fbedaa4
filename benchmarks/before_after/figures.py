"""Two versions' times side by side: percentiles, their ratio, and how sure that ratio is."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 1_000


def compare(
    before_ns: NDArray[np.float64], after_ns: NDArray[np.float64], percentile: float, *, resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Compare a percentile over items, where an item's time is its median over pairs of processes.

    The interval is a bootstrap over the pairs. Both processes of a pair took turns: a pair is drawn for both at once,
    so that what else the machine did meanwhile stays common to both.

    Args:
        before_ns: (pairs, items) nanoseconds.
        after_ns: The same of the other version.
        percentile: From 0 to 100.
        resamples: Draws of the bootstrap.

    Returns:
        Microseconds of both, the ratio after / before, and its 95 % interval.
    """
    if before_ns.shape != after_ns.shape:
        raise ValueError(f"got times of shapes {before_ns.shape} and {after_ns.shape}; both need (pairs, items)")
    pairs = len(before_ns)
    rng = np.random.default_rng(0)

    def of(times: NDArray[np.float64]) -> float:
        return float(np.percentile(np.median(times, axis=0), percentile))

    ratios = []
    for _ in range(resamples):
        drawn = rng.integers(pairs, size=pairs)
        ratios.append(of(after_ns[drawn]) / of(before_ns[drawn]))
    low, high = np.percentile(ratios, (2.5, 97.5))
    return {
        "before_us": of(before_ns) / 1e3,
        "after_us": of(after_ns) / 1e3,
        "ratio": of(after_ns) / of(before_ns),
        "low": float(low),
        "high": float(high),
        "pairs": pairs,
        "items": before_ns.shape[1],
    }
