"""Thresholds for targets, with bootstrap intervals.

Every threshold between two neighbouring win rates of a sample splits it alike, so a sample with K distinct win rates
has K + 1 splits, and a target chooses one of them. Its threshold is put half-way between the win rates on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.calibration.operating_points import COST_KINDS, QUALITY_KINDS, OperatingPoint, Target
from routellm_fast.errors import DataError, InvalidArgumentError, UnreachableTargetError
from routellm_fast.interval import Interval
from routellm_fast.scoring import check_win_rates

RESAMPLES: Final = 1000
# Sums of the same numbers in another order differ by this much, relative to their size.
_ROUNDING: Final = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Prompts with their win rates, and what each yields with either model: a cost or a quality.

    Attributes:
        win_rates: (m,) win rates in [0, 1].
        counts: (m,) int64: how often each prompt counts, >= 1.
        strong: (m,) cost or quality of the strong model's answers; None where only shares are asked for.
        weak: (m,) cost or quality of the weak model's answers, likewise.
    """

    win_rates: NDArray[np.float32]
    counts: NDArray[np.int64]
    strong: Floats | None = None
    weak: Floats | None = None
    _levels: Floats = field(init=False)
    _level: NDArray[np.int64] = field(init=False)
    _owner: NDArray[np.int64] = field(init=False)

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        """Sort the win rates, once for all resamples."""
        check_win_rates(self.win_rates)
        for name in ("counts", "strong", "weak"):
            values = getattr(self, name)
            if values is not None and (values.shape != self.win_rates.shape or not np.isfinite(values).all()):
                raise InvalidArgumentError(
                    f"{name} must be {self.win_rates.shape} finite numbers, found shape {values.shape}"
                )
        levels, level = np.unique(self.win_rates.astype(np.float64), return_inverse=True)
        object.__setattr__(self, "_levels", levels[::-1])
        object.__setattr__(self, "_level", len(levels) - 1 - level.reshape(-1))
        object.__setattr__(self, "_owner", np.repeat(np.arange(len(self.counts)), self.counts))

    @property
    def thresholds(self) -> Floats:
        """(K + 1,) thresholds, falling: the first sends no prompt to the strong model, the last sends all."""
        return np.concatenate([[1.0], (self._levels[:-1] + self._levels[1:]) / 2.0, [0.0]])

    @property
    def first(self) -> int:
        """The first split that a threshold can make: a win rate of 1 reaches every threshold."""
        return int(self._levels[0] >= 1.0)

    @property
    def level_count(self) -> int:
        """Number of distinct win rates."""
        return len(self._levels)

    def check_divisible(self) -> None:
        """Refuse a sample that no threshold divides. Raises DataError."""
        if self.level_count == 1:
            raise DataError(
                f"the win rate is {self._levels[0]:.6g} for all {len(self._owner):,} prompts: no threshold divides "
                "them. Is this the right router for these prompts?"
            )

    def splits(self, counts: NDArray[np.int64] | None = None) -> Splits:
        """Return all splits of the sample, or of a resample that counts its prompts in another way."""
        weights = (self.counts if counts is None else counts).astype(np.float64)
        total = float(weights.sum())
        share = self._cumulated(weights) / total
        if self.strong is None or self.weak is None:
            return Splits(share, None, self.first)
        gains = self._cumulated(weights * (self.strong - self.weak))
        return Splits(share, (float(weights @ self.weak) + gains) / total, self.first)

    def resample(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return (m,) counts of as many requests, drawn with replacement."""
        drawn = generator.integers(0, len(self._owner), len(self._owner))
        return np.bincount(self._owner[drawn], minlength=len(self.counts))

    def split_of(self, threshold: float) -> int:
        """Return which split a threshold makes."""
        return int(np.searchsorted(-self._levels, -threshold, side="right"))

    def _cumulated(self, values: Floats) -> Floats:
        sums = np.bincount(self._level, weights=values, minlength=len(self._levels))
        return np.concatenate([[0.0], np.cumsum(sums)])


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """All splits of a sample.

    Attributes:
        share: (K + 1,) strong share, never falling.
        value: (K + 1,) mean cost or quality of a request; None where only shares are known.
        first: Splits before this one need a threshold above 1.
    """

    share: Floats
    value: Floats | None
    first: int

    def pgr(self, split: int | np.int64) -> float:
        """Return the part of the quality gap that a split recovers; NaN where the strong model is no better."""
        if self.value is None or not self.value[-1] > self.value[0]:
            return float("nan")
        return float((self.value[split] - self.value[0]) / (self.value[-1] - self.value[0]))

    def best(self, target: Target) -> tuple[int, bool]:
        """Return the split for a target and True, or the nearest split and False where none reaches the target."""
        allowed = slice(self.first, None)
        if target.kind == "strong_share":
            return self.first + int(np.argmin(np.abs(self.share[allowed] - target.value))), True
        assert self.value is not None  # noqa: S101  (find_points has checked)
        value, size = self.value[allowed], _ROUNDING * float(np.abs(self.value).max())
        if target.kind in COST_KINDS:
            budget = target.value / 1000.0 if target.kind == "cost_usd_per_1k" else target.value * self.value[-1]
            within = np.flatnonzero(value <= budget + size)
            return self.first + int(within[-1] if within.size else np.argmin(value)), bool(within.size)
        wanted = target.value
        if target.kind == "pgr":
            wanted = self.value[0] + target.value * (self.value[-1] - self.value[0])
        reached = np.flatnonzero(value >= wanted - size)
        return self.first + int(reached[0] if reached.size else np.argmax(value)), bool(reached.size)


def find_points(
    targets: Sequence[Target],
    traffic: Sample,
    labelled: Sample | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[OperatingPoint]:
    """Return an operating point for each target.

    Resamples draw as many requests as there are, with replacement, and labelled rows likewise, apart from them. For a
    quality target the first split that reaches it is taken. The same rows choose the split and state its quality, which
    is optimistic where they are few.

    Args:
        targets: What to reach.
        traffic: The requests; with costs where a target is a cost.
        labelled: Labelled prompts with the quality of both models' answers; needed where a target is a quality.
        seed: Draws the resamples: the same seed gives the same intervals.
        resamples: Number of resamples, >= 100.
        on_progress: Called with the number of resamples done and their total.

    Raises:
        UnreachableTargetError: No threshold reaches a cost or quality; the text names the nearest one.
        DataError: All win rates are equal, or the target is a part of the gap and the strong model is no better.
        InvalidArgumentError: A target needs prices or labels that are not given.
    """
    if resamples < 100:
        raise InvalidArgumentError(f"an interval needs at least 100 resamples, found {resamples}")
    check_needs(
        targets,
        has_prices=traffic.strong is not None and traffic.weak is not None,
        has_labels=labelled is not None and labelled.strong is not None and labelled.weak is not None,
    )
    limits = [_choose(target, traffic, labelled) for target in targets]
    # Streams of their own: intervals of the traffic do not depend on whether there are labels.
    on_traffic = _Bootstrap(traffic, limits, resamples, np.random.default_rng([seed, 0]))
    on_labels = None
    if labelled is not None:
        on_labels = _Bootstrap(labelled, limits, resamples, np.random.default_rng([seed, 1]))
    thresholds = np.full((len(targets), resamples), np.nan)
    for number in range(resamples):
        on_traffic.draw(number)
        if on_labels is not None:
            on_labels.draw(number)
        for row, target in enumerate(targets):
            judged_on = on_labels if on_labels is not None and target.kind in QUALITY_KINDS else on_traffic
            thresholds[row, number] = judged_on.threshold(target)
        if on_progress is not None:
            on_progress(number + 1, resamples)
    return [
        OperatingPoint(
            target,
            Interval.of(limits[row], thresholds[row], decimals=None),
            on_traffic.share(row),
            cost_usd_per_1k=on_traffic.value(row, scale=1000.0),
            quality=None if on_labels is None else on_labels.value(row),
            pgr=None if on_labels is None else on_labels.pgr(row),
        )
        for row, target in enumerate(targets)
    ]


class _Bootstrap:
    """Collects what thresholds yield on a sample and on its resamples."""

    def __init__(self, sample: Sample, limits: Sequence[float], resamples: int, generator: np.random.Generator) -> None:
        self._sample, self._generator = sample, generator
        self._whole = self._drawn = sample.splits()
        self._thresholds = sample.thresholds
        self._splits = np.array([sample.split_of(limit) for limit in limits], dtype=np.int64)
        self._shares, self._values, self._pgrs = (np.full((len(limits), resamples), np.nan) for _ in range(3))

    def draw(self, number: int) -> None:
        """Draw the next resample."""
        self._drawn = self._sample.splits(self._sample.resample(self._generator))
        self._shares[:, number] = self._drawn.share[self._splits]
        if self._drawn.value is not None:
            self._values[:, number] = self._drawn.value[self._splits]
            self._pgrs[:, number] = [self._drawn.pgr(split) for split in self._splits]

    def threshold(self, target: Target) -> float:
        """Return the threshold that the last resample would choose; NaN where its models leave no gap to recover."""
        if target.kind == "pgr" and np.isnan(self._drawn.pgr(0)):
            return float("nan")
        return float(self._thresholds[self._drawn.best(target)[0]])

    def share(self, row: int) -> Interval:
        """Return the strong share at a threshold."""
        return Interval.of(self._whole.share[self._splits[row]], self._shares[row])

    def value(self, row: int, *, scale: float = 1.0) -> Interval | None:
        """Return the cost or quality at a threshold, where there is one."""
        if self._whole.value is None:
            return None
        return Interval.of(self._whole.value[self._splits[row]] * scale, self._values[row] * scale)

    def pgr(self, row: int) -> Interval | None:
        """Return the part of the gap that is recovered at a threshold, where there is a gap."""
        found = self._whole.pgr(self._splits[row])
        return None if np.isnan(found) else Interval.of(found, self._pgrs[row])


def check_needs(targets: Sequence[Target], *, has_prices: bool, has_labels: bool) -> None:
    """Refuse a target whose prices or labels are not there. Raises InvalidArgumentError."""
    for target in targets:
        if target.kind in COST_KINDS and not has_prices:
            raise InvalidArgumentError(f"{target.name} needs prices of both models")
        if target.kind in QUALITY_KINDS and not has_labels:
            raise InvalidArgumentError(f"{target.name} needs labelled rows with scores of both models")


def _choose(target: Target, traffic: Sample, labelled: Sample | None) -> float:
    sample = labelled if labelled is not None and target.kind in QUALITY_KINDS else traffic
    thresholds = sample.thresholds
    sample.check_divisible()
    splits = sample.splits()
    if target.kind == "pgr" and splits.value is not None and np.isnan(splits.pgr(0)):
        raise DataError(
            f"{target.name}: on the labelled rows the strong model scores {splits.value[-1]:.4g} on average and the "
            f"weak one {splits.value[0]:.4g}: there is no gap to recover"
        )
    split, reached = splits.best(target)
    if not reached:
        assert splits.value is not None  # noqa: S101  (shares are always reached, or the nearest is taken)
        scale = 1000.0 if target.kind in COST_KINDS else 1.0
        nearest = splits.pgr(split) if target.kind == "pgr" else splits.value[split] * scale
        nearest = nearest / splits.value[-1] / scale if target.kind == "cost_share" else nearest
        raise UnreachableTargetError(
            f"no threshold reaches {target.name}. Nearest is {nearest:.6g}, at threshold {thresholds[split]:.6g} and a "
            f"strong share of {splits.share[split]:.1%}"
        )
    return float(thresholds[split])
