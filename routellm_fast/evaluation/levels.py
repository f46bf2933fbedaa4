"""Win rates as rising levels: what a table of prompts and a sketch of a log have in common.

Prompts of one win rate are one level, which no threshold divides. How many prompts lie up to each level, and what the
strong model gains on them, is all that curves and metrics need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.evaluation.curves import (
    BINS,
    Counts,
    Curve,
    FineCurve,
    FloatArray,
    cuts_at_quantiles,
    gap_of,
    metrics_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Prompts by rising win rate.

    Attributes:
        order: (n,) the prompts in that order.
        ends: (levels,) where in that order each level has its last prompt.
        win_rates: (levels,) float64, rising strictly.
    """

    order: NDArray[np.intp]
    ends: NDArray[np.intp]
    win_rates: FloatArray

    __repr__ = brief_repr

    @classmethod
    def of(cls, win_rates: FloatArray) -> Ranking:
        """Rank (n,) finite win rates."""
        order = np.argsort(win_rates, kind="stable")
        ordered = win_rates[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(order) - 1)
        return cls(order, ends, ordered[ends])

    def cumulate(self, values: FloatArray) -> FloatArray:
        """Return (levels,) sums of the (n,) values of all prompts up to each level."""
        return np.asarray(values[self.order].cumsum()[self.ends])


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """What one router does with some prompts, by rising levels of its win rate.

    Attributes:
        win_rates: (levels,) float64, rising strictly.
        counts: (levels,) prompts up to each level; the last is the number of prompts.
        gains: (levels,) float64, sum of strong minus weak quality over the prompts up to each level.
        strong_sum: Sum of the strong model's quality over all prompts.
        weak_sum: The same for the weak model.
        extra_usd: (levels,) float64, by how many US dollars the strong model's answers to the prompts up to each level
            cost more; None where the costs of single answers are not known.
        is_divisible: Whether prompts of one level may be divided between the models, as those of the oracle may.
    """

    win_rates: FloatArray
    counts: Counts
    gains: FloatArray
    strong_sum: float
    weak_sum: float
    extra_usd: FloatArray | None = None
    is_divisible: bool = False

    __repr__ = brief_repr

    @classmethod
    def of(
        cls, win_rates: FloatArray, strong: FloatArray, weak: FloatArray, extra_usd: FloatArray | None = None
    ) -> Levels:
        """Put prompts together.

        Args:
            win_rates: (n,) finite.
            strong: (n,) quality of the strong model's answers.
            weak: The same for the weak model.
            extra_usd: (n,) by how much the strong model's answer costs more, in US dollars; None: not known.
        """
        ranking = Ranking.of(win_rates)
        return cls(
            ranking.win_rates,
            ranking.ends + 1,
            ranking.cumulate(strong - weak),
            float(strong.sum()),
            float(weak.sum()),
            None if extra_usd is None else ranking.cumulate(extra_usd),
        )

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        return int(self.counts[-1])

    @property
    def strong_quality(self) -> float:
        """Mean quality of the strong model alone."""
        return self.strong_sum / self.prompts

    @property
    def weak_quality(self) -> float:
        """Mean quality of the weak model alone."""
        return self.weak_sum / self.prompts

    def values(self, name: str = "") -> dict[str, float]:
        """Return the metrics, by the names of curves.METRICS.

        Raises:
            DataError: Both models are equally good; the text starts with the name, where one is given.
        """
        gap_of(self.strong_quality, self.weak_quality, name)
        recovered = (self.gains / (self.strong_sum - self.weak_sum))[None]
        found = metrics_of(self.counts[None], recovered, self.win_rates, is_divisible=self.is_divisible)
        return {metric: float(values[0]) for metric, values in found.items()}

    def sweep(self, bins: int = BINS) -> Curve:
        """Route at every quantile of the win rates; see metrics.sweep."""
        cuts = np.unique(cuts_at_quantiles(self.counts, self.win_rates, bins))[::-1]
        share, quality = self._at(cuts)
        return Curve(share, quality, self.strong_quality, self.weak_quality)

    def curve(self, points: int | None = None) -> FineCurve:
        """Return the curve at about equally spaced strong shares; None: at every level."""
        cuts = self._cuts(points)
        # Nothing reaches the first threshold.
        top = np.append(self.win_rates, np.nextafter(self.win_rates[-1], np.inf))
        return FineCurve(*self._at(cuts), top[cuts], self.strong_quality, self.weak_quality)

    def extra_usd_at(self, points: int) -> FloatArray | None:
        """Return what a prompt costs more on average, in US dollars, at each point of `curve`, than the weak model."""
        if self.extra_usd is None:
            return None
        return _above(self.extra_usd, self._cuts(points)) / self.prompts

    def histogram(self, bins: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """Return the edges of equal bins from the lowest to the highest win rate, and how many prompts lie in each.

        Where these two are too close for as many bins, the edges reach from 0.5 below to 0.5 above, as for equal ones.
        """
        low, high = self.win_rates[0], self.win_rates[-1]
        if high - low < 2 * bins * np.spacing(max(abs(low), abs(high))):
            low = high = (low + high) / 2
        weights = np.diff(self.counts, prepend=0)
        counts, edges = np.histogram(self.win_rates, bins=bins, range=(low, high), weights=weights)
        return edges, counts.astype(np.int64)

    def _cuts(self, points: int | None) -> NDArray[np.intp]:
        """Return how many levels stay with the weak model at each point of a curve, falling."""
        if points is None:
            return np.arange(len(self.counts), -1, -1)
        total = self.prompts
        wanted = np.rint(np.linspace(0.0, 1.0, min(points, total) + 1) * total).astype(np.int64)
        # Prompts of one win rate cannot be divided: each wanted number of prompts is moved up to the end of its level.
        below = np.append(0, self.counts)
        return np.unique(np.searchsorted(below, total - wanted, side="right") - 1)[::-1]

    def _at(self, cuts: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        """Return strong share and mean quality where this many levels stay with the weak model."""
        total = self.prompts
        return _above(self.counts, cuts) / total, (self.weak_sum + _above(self.gains, cuts)) / total


def _above(sums: NDArray[Any], cuts: NDArray[np.intp]) -> NDArray[Any]:
    """Return what of cumulated sums lies above each cut."""
    return np.asarray(sums[-1] - np.append(0, sums)[cuts])
