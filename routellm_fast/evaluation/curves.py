"""Each metric once: of one curve, and of many curves at a time.

c, the strong share, is the share of prompts that go to the strong model. PGR, the performance gap recovered, is
(quality - weak) / (strong - weak), and CPT(x) is the least c that reaches PGR x. APGR, the average of PGR over c,
exists twice:

* `apgr_routellm`, RouteLLM's code: the area under the curve through the ten quantiles of the win rates, by trapezoids.
* `apgr_paper`, its paper: the mean of PGR at ten values of c. The paper does not say which; here the middles of ten
  equal parts, 5 %, 15 % to 95 %, at which random routing has the 0.5 that its tables give it.

The numbers are those of RouteLLM's `evals/evaluate.py` where that gives any, its quirks included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import DataError

BINS: Final = 10
PAPER_SHARES: Final = tuple((2 * part + 1) / 20 for part in range(10))
METRICS: Final = ("apgr_routellm", "apgr_paper", "cpt20", "cpt50", "cpt80")
CPT_TARGETS: Final[Mapping[str, float]] = MappingProxyType({"cpt20": 0.2, "cpt50": 0.5, "cpt80": 0.8})
# What random routing has in expectation: its curve is a straight line.
CHANCE: Final[Mapping[str, float]] = MappingProxyType({"apgr_routellm": 0.5, "apgr_paper": 0.5, **CPT_TARGETS})

FloatArray = NDArray[np.float64]
# Prompts, counted with any width of integer.
Counts = NDArray[np.integer[Any]]
# The values of each metric, by name, on b curves: (b,) float64.
Draws = dict[str, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Quality against cost of one router.

    Attributes:
        strong_share: (t,) float64 in [0, 1], rising.
        quality: (t,) float64, mean quality of the answers at each share.
        strong_quality: Mean quality of the strong model alone.
        weak_quality: Mean quality of the weak model alone.
    """

    strong_share: FloatArray
    quality: FloatArray
    strong_quality: float
    weak_quality: float

    __repr__ = brief_repr

    @property
    def pgr(self) -> FloatArray:
        """(t,) float64, the performance gap recovered at each share. Raises DataError where the models are equal."""
        gap = gap_of(self.strong_quality, self.weak_quality)
        return np.asarray((self.quality - self.weak_quality) / gap)

    @property
    def apgr(self) -> float:
        """RouteLLM's APGR, over the curve's own range of c.

        Raises:
            DataError: Both models are equally good: there is no gap to recover.
        """
        return float(_area(self.strong_share[None], self.pgr[None])[0])

    def cpt(self, pgr: float) -> float:
        """Strong share, in [0, 1], at which this PGR is reached. Raises DataError where the models are equal."""
        return _share_at(pgr, self.strong_share, self.pgr)


@dataclass(frozen=True, slots=True, eq=False)
class FineCurve:
    """A curve at many strong shares.

    Attributes:
        strong_share: (t,) float64, from 0 to 1, rising.
        quality: (t,) float64, mean quality of the answers at each share.
        threshold: (t,) float64, falling: win rates at or above it go to the strong model.
        strong_quality: Mean quality of the strong model alone.
        weak_quality: Mean quality of the weak model alone.
    """

    strong_share: FloatArray
    quality: FloatArray
    threshold: FloatArray
    strong_quality: float
    weak_quality: float

    __repr__ = brief_repr


def gap_of(strong_quality: float, weak_quality: float, name: str = "") -> float:
    """Return by how much the strong model is better on average, which APGR divides by.

    Raises:
        DataError: Both models are equally good; the text starts with the name, where there is one.
    """
    if strong_quality == weak_quality:
        where = f"{name}: " if name else ""
        raise DataError(f"{where}both models score {strong_quality:g} on average: APGR divides by their gap")
    return strong_quality - weak_quality


def metrics_of(
    counts: Counts, recovered: FloatArray, win_rates: FloatArray, *, with_cpt: bool = True, is_divisible: bool = False
) -> Draws:
    """Return the metrics of b curves of one router.

    Args:
        counts: (b, levels) prompts up to each level of the win rate, levels rising.
        recovered: (b, levels) PGR that is lost when the prompts up to each level go to the weak model.
        win_rates: (levels,) the win rates, rising strictly.
        with_cpt: Whether to compute CPT too; without, only APGR.
        is_divisible: Whether prompts of one level may be divided between the models, as those of the oracle may. Those
            of a router may not: no threshold divides equal win rates.
    """
    # In front, the curve's end at which no prompt stays with the weak model.
    counts, recovered = np.pad(counts, ((0, 0), (1, 0))), np.pad(recovered, ((0, 0), (1, 0)))
    if is_divisible:
        wanted = np.linspace(0.0, 1.0, BINS + 1)
        share, pgr = np.broadcast_to(wanted, (len(counts), BINS + 1)), recovered_at(counts, recovered, wanted)
    else:
        cuts = _cuts(counts, win_rates, BINS)
        share = 1.0 - np.take_along_axis(counts, cuts, axis=1) / counts[:, -1:]
        pgr = recovered[:, -1:] - np.take_along_axis(recovered, cuts, axis=1)
    found = {
        "apgr_routellm": _area(share, pgr),
        "apgr_paper": np.asarray(recovered_at(counts, recovered, np.array(PAPER_SHARES)).mean(axis=1)),
    }
    if with_cpt:
        for name, target in CPT_TARGETS.items():
            found[name] = np.array([_share_at(target, x, y) for x, y in zip(share, pgr, strict=True)])
    return found


def draws_of(
    counts: Counts, gains: FloatArray, win_rates: FloatArray, *, with_cpt: bool = True, is_divisible: bool = False
) -> Draws:
    """Return the metrics of b resamples; NaN where the strong model is not better on a resample.

    Args:
        counts: See metrics_of.
        gains: (b, levels) sum of strong minus weak quality over the prompts up to each level.
        win_rates: See metrics_of.
        with_cpt: See metrics_of.
        is_divisible: See metrics_of.
    """
    gap = gains[:, -1:]
    is_defined = gap[:, 0] > 0.0
    recovered = gains / np.where(is_defined[:, None], gap, 1.0)
    found = metrics_of(counts, recovered, win_rates, with_cpt=with_cpt, is_divisible=is_divisible)
    return {name: np.where(is_defined, values, np.nan) for name, values in found.items()}


def joined(parts: Sequence[Draws]) -> Draws:
    """Return draws that were made some at a time as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cuts_at_quantiles(counts: Counts, win_rates: FloatArray, bins: int) -> NDArray[np.intp]:
    """Return (bins + 1,) how many levels stay with the weak model at each quantile of the win rates, falling.

    Args:
        counts: (levels,) prompts up to each level.
        win_rates: (levels,) rising strictly.
        bins: Number of bins between the quantiles.
    """
    return np.asarray(_cuts(np.pad(counts, (1, 0))[None], win_rates, bins)[0])


def _quantiles(bins: int) -> FloatArray:
    """Return the bins + 1 quantiles of pandas.qcut, to the last bit.

    Where a quantile falls on a prompt, that bit says whether the prompt is above it. pandas rounds up what falls short
    of a whole number of bins, and goes by way of percent.
    """
    quantiles = np.linspace(0.0, 1.0, bins + 1)
    inexact = bins * quantiles != np.arange(bins + 1)
    return 100.0 * np.where(inexact, np.nextafter(quantiles, 1.0), quantiles) / 100.0


def _cuts(counts: Counts, win_rates: FloatArray, bins: int) -> NDArray[np.intp]:
    """Return (b, bins + 1) how many levels stay with the weak model at RouteLLM's thresholds, falling.

    Thresholds are the edges of the quantiles; a prompt goes to the strong model at or above one, and above it at the
    last, so that the curve starts where no prompt does. counts hold a leading zero column.
    """
    total = counts[:, -1:]
    position = _quantiles(bins)[:-1] * (total - 1)
    low = np.floor(position).astype(np.intp)
    level, after = (_level_at(counts, index) for index in (low, np.minimum(low + 1, total - 1)))
    # Interpolated as numpy.quantile does: whether the lower level reaches the edge can hang on the last bit.
    part, start, end = position - low, win_rates[level], win_rates[after]
    edge = np.where(part < 0.5, start + (end - start) * part, end - (end - start) * (1.0 - part))
    below = np.where(start >= edge, level, after)
    return np.concatenate([below, np.full((len(counts), 1), counts.shape[1] - 1)], axis=1)[:, ::-1]


def recovered_at(counts: Counts, recovered: FloatArray, shares: FloatArray) -> FloatArray:
    """Return (b, shares) what is recovered at exact strong shares; a level that a share divides goes in proportion.

    Args:
        counts: (b, 1 + levels) prompts up to each level, from a leading column of zeros.
        recovered: (b, 1 + levels) what is lost when these go to the weak model, likewise: PGR, or a sum of gains.
        shares: (shares,) strong shares in [0, 1].
    """
    total = counts[:, -1:]
    left_out = total * (1.0 - shares)
    level = _level_at(counts, np.minimum(left_out, total - 1))
    before, upto = (np.take_along_axis(counts, level + step, axis=1) for step in (0, 1))
    base, top = (np.take_along_axis(recovered, level + step, axis=1) for step in (0, 1))
    part = (left_out - before) / (upto - before)
    return np.asarray(recovered[:, -1:] - (base + part * (top - base)))


def _level_at(counts: Counts, positions: NDArray[Any]) -> NDArray[np.intp]:
    """Return (b, positions) the level of the prompt at each position, from 0; counts hold a leading zero column."""
    rows, columns = counts.shape
    # One search for all rows: each is moved beyond the end of the one before.
    offset = (int(counts[:, -1].max()) + 1) * np.arange(rows)[:, None]
    found = np.searchsorted((counts + offset).ravel(), (positions + offset).ravel(), side="right")
    return np.asarray(found.reshape(rows, -1) - columns * np.arange(rows)[:, None] - 1, dtype=np.intp)


def _area(share: FloatArray, pgr: FloatArray) -> FloatArray:
    """Return (b,) mean PGR over each row's own range of shares, by trapezoids."""
    # numpy 1 and 2 have no common name for it.
    twice = ((share[:, 1:] - share[:, :-1]) * (pgr[:, 1:] + pgr[:, :-1])).sum(axis=1)
    return np.asarray(twice / 2.0 / (share[:, -1] - share[:, 0]))


def _share_at(target: float, share: FloatArray, pgr: FloatArray) -> float:
    """Return the strong share at which a curve reaches a PGR.

    RouteLLM's numpy.interp over quality as it stands: where the curve is not monotone, that is neither the first nor
    the last crossing but what a binary search meets.
    """
    kept = np.append(True, share[1:] > share[:-1])
    return float(np.interp(target, pgr[kept], share[kept]))
