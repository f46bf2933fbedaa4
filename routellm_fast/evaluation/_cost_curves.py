"""Curves of quality over cost: hulls, areas, and what a budget buys."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def hull(cost: Array, quality: Array) -> NDArray[np.intp]:
    """Return the corners of the non-decreasing concave hull of points: what choosing between them at random can reach.

    Args:
        cost: (t,) at least one.
        quality: (t,)

    Returns:
        Indices of the corners, costs and qualities rising strictly: from the best of the cheapest points to the
        cheapest of the best.

    Source:
        RouterBench (Hu et al. 2024), the "non-decreasing convex hull".
    """
    corners: list[int] = []
    x, y = cost.tolist(), quality.tolist()
    for point in np.lexsort((-quality, cost)).tolist():
        if corners and y[point] <= y[corners[-1]]:
            continue  # no dearer point is worth having at the same quality
        while len(corners) >= 2:
            left, middle = corners[-2:]
            if (y[middle] - y[left]) * (x[point] - x[left]) > (y[point] - y[left]) * (x[middle] - x[left]):
                break
            corners.pop()
        corners.append(point)
    return np.array(corners)


def mean_quality(cost: Array, quality: Array, low: float, high: float) -> float:
    """Return the mean, over costs from low to high, of the curve through points.

    Between points the curve is straight; beyond the last it stays level, as a budget need not be spent.

    Args:
        cost: (t,) in any order.
        quality: (t,)
        low: Left end of the range.
        high: Right end, above low.
    """
    order = np.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    at = np.concatenate(([low], x[(x > low) & (x < high)], [high]))
    values = np.concatenate(([np.interp(low, x, y)], y[(x > low) & (x < high)], [np.interp(high, x, y)]))
    return float(np.diff(at) @ (values[1:] + values[:-1]) / (2.0 * (high - low)))


def quality_at(cost: Array, quality: Array, budget: float) -> float:
    """Return the curve's quality at a cost; NaN below its cheapest point."""
    order = np.lexsort((quality, cost))
    return float(np.interp(budget, cost[order], quality[order], left=np.nan))


def cost_of(cost: Array, quality: Array, wanted: float) -> float:
    """Return the least cost at which the curve reaches a quality; infinity where it never does."""
    order = np.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    reached = np.flatnonzero(y >= wanted)
    if not len(reached):
        return float("inf")
    first = int(reached[0])
    if first == 0:
        return float(x[0])
    part = (wanted - y[first - 1]) / (y[first] - y[first - 1])
    return float(x[first - 1] + part * (x[first] - x[first - 1]))


class Curves:
    """One curve as the prompts draw it, then as each resample of them does."""

    def __init__(self, pairs: Iterable[tuple[Array, Array]]) -> None:
        """Keep (cost, quality) pairs, one a resample."""
        self._pairs = list(pairs)

    def on_hull(self) -> Curves:
        """Return each curve's hull."""
        corners = [hull(cost, quality) for cost, quality in self._pairs]
        return Curves((cost[at], quality[at]) for at, (cost, quality) in zip(corners, self._pairs, strict=True))

    def mean_quality(self, low: float, high: float) -> Array:
        """Return (resamples,) of mean_quality."""
        return np.array([mean_quality(cost, quality, low, high) for cost, quality in self._pairs])

    def quality_at(self, budgets: Array) -> Array:
        """Return (resamples,) of quality_at, each at its own budget."""
        found = zip(self._pairs, budgets.tolist(), strict=True)
        return np.array([quality_at(cost, quality, budget) for (cost, quality), budget in found])

    def cost_of(self, wanted: Array) -> Array:
        """Return (resamples,) of cost_of, each for its own quality."""
        found = zip(self._pairs, wanted.tolist(), strict=True)
        return np.array([cost_of(cost, quality, least) for (cost, quality), least in found])
