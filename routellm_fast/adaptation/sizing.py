"""How many labels: for an interval that is wanted, for a difference that is to be told, for the money that is there.

Every number here rests on one formula. What a router keeps of the strong model's quality, and what it saves of its
cost, are ratios of two means over the n labels of the untouched part, sum(y) / sum(x). For such a ratio R

    standard error = sd(y - R x) / (mean(x) sqrt(n))        half-width = z sd(y - R x) / (mean(x) sqrt(n))

with z = 1.96 for 95 % (W. G. Cochran, Sampling Techniques, 3rd edition, 1977, section 2.11). `spread` below is what
stands over the square root: the standard deviation of a single label. There is no correction for a finite file: what is
wanted is the interval for the traffic to come, of which the whole file is itself a sample.

The normal distribution stands in for Student's: below some 30 labels intervals are a few per cent too narrow, but then
they are so wide that nothing is clear anyway.

Before anything is known a spread has to be assumed. ASSUMED_KEPT is about the middle of what public tables of outcomes
have, from medical exams to code and with pairs of models of any distance, when half of the requests go to the weak
model. It is less where the models seldom differ or few requests go to the weak one, and more where the strong model is
itself often wrong. ASSUMED_SAVING is for the largest saving that keeps 95 % of the strong model's quality: as measured
there, it is below this for most pairs. It is far more than the spread of the saving at a given threshold, since the
threshold at which 95 % is kept is uncertain too; it is less where the weak model is much worse, as then little can be
saved, and more where both models are nearly as good as each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.estimate import estimate
from routellm_fast.augmentation.ledger import Ledger
from routellm_fast.augmentation.questions import Questioner
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.interval import Interval

ASSUMED_KEPT: Final = 0.5
ASSUMED_SAVING: Final = 1.5
_CONFIDENCE: Final = 0.95
_POWER: Final = 0.8


@dataclass(frozen=True, slots=True)
class Division:
    """How labels are divided between proof and learning.

    Two fifths prove. What is learned grows about as the logarithm of the labels learned from, and an interval narrows
    as the square root of the labels that prove. To let a fifth prove instead gives a third more to learn from, a
    quarter of what three times as many would gain, and makes the interval 1.4 times as wide; to let three fifths prove
    narrows it by a fifth and takes a third of what is learned from. With fewer than a hundred labels that prove, hardly
    any difference that occurs is clear, so small budgets are halved.

    Attributes:
        untouched_share: The share of the labels that stay untouched, in (0, 1).
        least_untouched: So many stay untouched even where that is a larger share, but never more than half, >= 0.
    """

    untouched_share: float = 0.4
    least_untouched: int = 100

    def __post_init__(self) -> None:
        """Refuse what divides nothing."""
        if not 0.0 < self.untouched_share < 1.0 or self.least_untouched < 0:
            raise InvalidArgumentError(
                "the untouched share lies between 0 and 1 and the least number of untouched labels is at least 0, "
                f"found {self.untouched_share} and {self.least_untouched}"
            )

    @overload
    def untouched(self, labels: int) -> int: ...
    @overload
    def untouched(self, labels: NDArray[np.int64]) -> NDArray[np.int64]: ...
    def untouched(self, labels: Any) -> Any:
        """Return how many of so many labels stay untouched; one label more never takes one away from either part."""
        # What floating-point numbers lack of a whole number, a billionth makes up for.
        share = np.floor(self.untouched_share * np.asarray(labels) + 1e-9).astype(np.int64)
        found = np.maximum(share, np.minimum(self.least_untouched, np.asarray(labels) // 2))
        return int(found) if isinstance(labels, int) else found

    def labels_for(self, untouched: int) -> int:
        """Return the fewest labels of which at least so many stay untouched."""
        low, high = 0, 1
        while self.untouched(high) < untouched:
            high *= 2
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.untouched(middle) < untouched else (low, middle)
        return low


def spread_of_ratio(
    parts: NDArray[np.float64], wholes: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the spread of sum(parts) / sum(wholes): sd(y - R x) / mean(x). See the top of this module.

    Args:
        parts: (n,) y, such as the quality of the routed answers, or what routing saves.
        wholes: (n,) x, such as the quality, or the cost, of the strong model's answers.
        weights: (n,) >= 0: how much each label counts, such as how often its prompt was asked; None for all alike. The
            spread is then that of n labels with such weights.

    Raises:
        InvalidArgumentError: There are fewer than two labels, or the wholes sum to nothing.
    """
    counted = np.ones(len(wholes)) if weights is None else np.asarray(weights, dtype=np.float64)
    y, x = counted * parts, counted * wholes
    if len(x) < 2 or not x.sum() > 0.0:
        raise InvalidArgumentError(
            f"a spread needs two labels or more, and a whole above 0, found {len(x)} labels and {float(x.sum()):g}"
        )
    return float(np.std(y - y.sum() / x.sum() * x, ddof=1) / x.mean())


def spread_of_interval(interval: Interval, labels: int) -> float:
    """Return the spread that a measured 95 % interval of n labels speaks of, whatever number it is of."""
    return interval.width / 2.0 * math.sqrt(labels) / _z(_CONFIDENCE)


def half_width(spread: float, labels: int, *, confidence: float = _CONFIDENCE) -> float:
    """Return half the width of the interval that n untouched labels give; infinite for none.

    Args:
        spread: See the top of this module.
        labels: n.
        confidence: How often the interval holds the true number, in (0, 1).
    """
    return _z(confidence) * spread / math.sqrt(labels) if labels else math.inf


def labels_for_half_width(spread: float, wanted: float, *, confidence: float = _CONFIDENCE) -> int:
    """Return how many untouched labels give an interval of at most this half-width.

    Raises:
        InvalidArgumentError: The half-width is not above 0.
    """
    if not wanted > 0.0:
        raise InvalidArgumentError(f"the half-width of an interval is above 0, found {wanted}")
    return _up((_z(confidence) * spread / wanted) ** 2)


def labels_to_tell(
    effect: float, spread: float, labels: int = 0, *, power: float = _POWER, confidence: float = _CONFIDENCE
) -> int | None:
    """Return how many more untouched labels would make a difference of this size clear.

    With n labels in all, a true difference d lies outside of what chance explains with the probability `power` where

        n = ((z(1 - (1 - confidence) / 2) + z(power)) spread / d)^2

    by a two-sided test (J. M. Lachin, Introduction to sample size determination and power analysis for clinical trials,
    Controlled Clinical Trials 2, 1981).

    Args:
        effect: The difference, in the unit of the spread, of either sign.
        spread: The standard deviation of one label's difference; see the top of this module.
        labels: How many there are already.
        power: How likely the difference is to be seen, in (0, 1).
        confidence: 1 less how often a difference is seen where there is none, in (0, 1).

    Returns:
        The number; 0 where there are enough. None for no difference: no number of labels shows it.
    """
    if effect == 0.0:
        return None
    needed = ((_z(confidence) + NormalDist().inv_cdf(power)) * spread / effect) ** 2
    return max(0, _up(needed) - labels)


def effective_labels(weights: NDArray[np.float64]) -> float:
    """Return how many labels of equal weight are worth as much as these: sum(w)^2 / sum(w^2); 0 for none.

    Where few prompts make up most of the traffic, a mean over requests rests on few labels, however many there are.

    Source: L. Kish, Survey Sampling, 1965, chapter 11.
    """
    squares = float(np.square(weights, dtype=np.float64).sum())
    return float(np.sum(weights, dtype=np.float64)) ** 2 / squares if squares else 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a number of labels promises.

    Attributes:
        labels: The labels.
        untouched: How many of them stay untouched.
        training: How many are learned from.
        kept: Half-width of the 95 % interval of the share of the strong model's quality that is kept.
        saving: The same of the share of its cost that is saved.
    """

    labels: int
    untouched: int
    training: int
    kept: float
    saving: float

    @classmethod
    def of(
        cls, labels: int, division: Division, *, kept: float = ASSUMED_KEPT, saving: float = ASSUMED_SAVING
    ) -> Outlook:
        """Return the outlook for a number of labels, given the spreads of both shares."""
        untouched = division.untouched(labels)
        return cls(labels, untouched, labels - untouched, half_width(kept, untouched), half_width(saving, untouched))

    @classmethod
    def for_kept(
        cls, wanted: float, division: Division, *, kept: float = ASSUMED_KEPT, saving: float = ASSUMED_SAVING
    ) -> Outlook:
        """Return the outlook for the fewest labels whose interval of what is kept has at most this half-width."""
        return cls.of(division.labels_for(labels_for_half_width(kept, wanted)), division, kept=kept, saving=saving)

    @classmethod
    def for_saving(
        cls, wanted: float, division: Division, *, kept: float = ASSUMED_KEPT, saving: float = ASSUMED_SAVING
    ) -> Outlook:
        """Return the outlook for the fewest labels whose interval of the saving has at most this half-width."""
        return cls.of(division.labels_for(labels_for_half_width(saving, wanted)), division, kept=kept, saving=saving)


def affordable(
    contests: Sequence[Contest],
    max_cost_usd: float,
    *,
    questioner: Questioner | None,
    generators: Mapping[str, EndpointSettings],
    ledger: Ledger | None = None,
) -> int:
    """Return how many of the contests, in their order, can be answered and judged for the money.

    By the costs that `augmentation.estimate` expects: prompts at four bytes a token, answers of full length. What the
    ledger has on record costs nothing.

    Args:
        contests: One of each prompt, in the order of labelling.
        max_cost_usd: US dollars that may still be spent.
        questioner: See augmentation.judge.judge_contests.
        generators: See augmentation.judge.judge_contests.
        ledger: See augmentation.judge.judge_contests.

    Raises:
        InvalidArgumentError: A model that is asked has no price.
    """
    low, high = 0, len(contests)
    while low < high:
        middle = (low + high + 1) // 2
        cost_usd = estimate(contests[:middle], questioner=questioner, generators=generators, ledger=ledger).cost_usd
        if cost_usd is None:
            raise InvalidArgumentError("what a label costs is unknown: give the price of each model that is asked")
        low, high = (middle, high) if cost_usd <= max_cost_usd else (low, middle - 1)
    return low


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def _up(labels: float) -> int:
    """Round up, but not for what floating-point numbers exceed a whole number by."""
    return math.ceil(labels * (1.0 - 1e-12))
