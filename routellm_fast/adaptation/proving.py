"""The proof: what a router does on labels that nothing was chosen or learned on.

Every number has a 95 % interval over resamples of prompt groups. Thresholds were chosen on other labels and stay fixed,
as a deployed router's does. Beside the router stand what it must beat: the models alone, the router as shipped, prompt
length, and above all a *fixed mixture*, which sends the same share of requests to the strong model without looking at
them. A mixture also saves money, and its quality lies on the straight line between the two models. Only what a router
saves beyond the mixture of the same quality is the router's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.association import DEALS, least_p_value, p_values
from routellm_fast.adaptation.labels import Labels
from routellm_fast.arrays import brief_repr
from routellm_fast.data.split import numbered
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.bootstrap import quality_draws, resampled
from routellm_fast.evaluation.comparison import RANDOM_RUNS, evaluate
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.metrics import check_scores
from routellm_fast.evaluation.results import BASELINES, LENGTH, BenchmarkResult
from routellm_fast.interval import Interval
from routellm_fast.prices import PriceList
from routellm_fast.scoring import OnStep
from routellm_fast.texts import word_counts

# How results name the router that was learned from the user's labels, and the one that it started from.
ADAPTED: Final = "adapted router"
SHIPPED: Final = "router as shipped"
# How results name the labels of the proof.
UNTOUCHED: Final = "the untouched part"
RESAMPLES: Final = 2000
_BAND_SHARES: Final = 41
_DECIMALS: Final = 6
# Of what one request costs.
_USD_DECIMALS: Final = 12
# Means of equal gaps may differ in the last bits.
_ROUNDING: Final = 9

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold that was chosen on other labels.

    Attributes:
        goal: What it was chosen for, in words, e.g. "95 % of the strong model's quality".
        threshold: Win rate from which the strong model is chosen.
        kept_quality: The share of the strong model's quality that was asked for, e.g. 0.95; None where a share of
            requests or a budget was.
    """

    goal: str
    threshold: float
    kept_quality: float | None = None


@dataclass(frozen=True, slots=True)
class Money:
    """What a request costs on average, in US dollars, and what routing saves of it.

    Attributes:
        strong_usd: The strong model answers everything.
        weak_usd: The weak model answers everything.
        routed_usd: The router chooses.
        saved_usd: strong_usd less routed_usd.
        saved_share: The same as a share of strong_usd.
        mixture_usd: A fixed mixture of the same quality; None where there is none.
        beyond_mixture_usd: mixture_usd less routed_usd: what the router itself saves.
    """

    strong_usd: Interval
    weak_usd: Interval
    routed_usd: Interval
    saved_usd: Interval
    saved_share: Interval
    mixture_usd: Interval | None
    beyond_mixture_usd: Interval | None


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What the adapted router does at a threshold.

    Attributes:
        choice: The threshold, and what it was chosen for.
        strong_share: Share of requests that go to the strong model, in [0, 1].
        quality: Mean score of the answers.
        kept: quality as a share of the strong model's; None where that is 0.
        saved_calls: Share of the calls to the strong model that are saved against sending it everything.
        mixture_share: Strong share of the fixed mixture of the same quality, in [0, 1]; None where the strong model is
            not better, so that no mixture gains anything.
        beyond_mixture: mixture_share less strong_share: the share of requests by which the router needs fewer calls to
            the strong model than that mixture.
        money: The same in US dollars; None where costs are not known.
    """

    choice: Choice
    strong_share: Interval
    quality: Interval
    kept: Interval | None
    saved_calls: Interval
    mixture_share: Interval | None
    beyond_mixture: Interval | None
    money: Money | None


@dataclass(frozen=True, slots=True)
class QualityBand:
    """The 95 % interval of the adapted router's quality at exact strong shares.

    Attributes:
        strong_share: Shares in [0, 1], rising.
        low: Lower end of the mean quality at each.
        high: Upper end.
    """

    strong_share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found on the untouched part.

    Attributes:
        strong_model: Name of the strong model.
        weak_model: Name of the weak model.
        prompts: Number of prompts.
        groups: Number of prompt groups.
        ties: Number of prompts that both models answered equally well.
        different: Number of groups whose mean gap is another than the one that most groups have.
        strong_wins: Share of prompts that the strong model answered better.
        strong_quality: Mean score of the strong model.
        weak_quality: Mean score of the weak model.
        gap: strong_quality less weak_quality.
        weak_kept: weak_quality as a share of strong_quality; None where that is 0.
        p_values: By router, and for prompt length: how likely at least so much of an association of score and gap
            would be if the score knew nothing (see `association`).
        least_p_value: What a perfect router's p value would be.
        points: What the adapted router does at each threshold, in the order given.
        measured: APGR, CPT and curves of all routers and baselines; None where the strong model is not better, so that
            APGR is undefined.
        band: The interval of the adapted router's curve.
        labels: Number of labels in all: these, and those that were learned from.
        settings: What the numbers depend on: seed, resamples, deals.
    """

    strong_model: str
    weak_model: str
    prompts: int
    groups: int
    ties: int
    different: int
    strong_wins: float
    strong_quality: Interval
    weak_quality: Interval
    gap: Interval
    weak_kept: Interval | None
    p_values: Mapping[str, float]
    least_p_value: float
    points: tuple[AtThreshold, ...]
    measured: BenchmarkResult | None
    band: QualityBand
    labels: int
    settings: Mapping[str, int] = field(default_factory=dict)

    __repr__ = brief_repr

    def apgr(self, name: str) -> Interval | None:
        """Return APGR (RouteLLM's code) of a router or baseline; None where there is none."""
        rows = () if self.measured is None else self.measured.routers
        return next((row.metrics.apgr_routellm for row in rows if row.name == name), None)

    def lead(self, other: str) -> Interval | None:
        """Return by how much APGR of the adapted router exceeds another's; None where that is not known."""
        for found in () if self.measured is None else self.measured.differences:
            if (found.router, found.other) == (ADAPTED, other):
                return found.apgr
            if (found.router, found.other) == (other, ADAPTED):
                return Interval(-found.apgr.value, -found.apgr.high, -found.apgr.low)
        return None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object; intervals are objects of value, low and high."""
        return dataclasses.asdict(self)


def prove(
    untouched: Labels,
    scores: Mapping[str, NDArray[np.floating[Any]]],
    choices: Sequence[Choice],
    *,
    all_labels: int | None = None,
    resamples: int = RESAMPLES,
    random_runs: int = RANDOM_RUNS,
    deals: int = DEALS,
    seed: int = 0,
    on_progress: OnStep | None = None,
) -> Proof:
    """Measure a router on labels that it has not seen.

    Args:
        untouched: n labels, at least one. Costs, where known, are those of these answers (`saving.priced` adds them).
        scores: (n,) win rates by router; ADAPTED is there, SHIPPED and others may be.
        choices: Thresholds of the adapted router, at least one; the first is what the verdict is on.
        all_labels: Number of labels in all, these included; None: there are no others.
        resamples: Number of resamples behind each interval.
        random_runs: Number of runs of random routing.
        deals: How many times the test of association deals the gaps out anew.
        seed: Seed of all that is drawn.
        on_progress: Told of what is done.

    Raises:
        InvalidArgumentError: There is no label, no threshold or no score of the adapted router; scores have a wrong
            shape or are not finite; a router has the name of a baseline.
    """
    if not len(untouched):
        raise InvalidArgumentError("a proof needs labels that were kept apart, found none")
    if not choices or ADAPTED not in scores:
        raise InvalidArgumentError(
            f"a proof needs scores of {ADAPTED!r} and a threshold for it, found {len(choices)} thresholds and scores "
            f"of {', '.join(map(repr, scores)) or 'no router'}"
        )
    if taken := BASELINES.intersection(scores):
        raise InvalidArgumentError(f"{min(taken)!r} is the name of a baseline: name the router otherwise")
    benchmark = benchmark_of(untouched)
    known = {name: check_scores(values, benchmark) for name, values in scores.items()}
    known = {ADAPTED: known[ADAPTED], **known}
    count, group = numbered(untouched.groups)
    means = np.round(np.bincount(group, untouched.gap, count) / np.bincount(group, minlength=count), _ROUNDING)
    drawn = _Drawn.of(untouched, known[ADAPTED], choices, resamples, seed)
    tell = on_progress or (lambda *_: None)
    tell("test of association", 0, 1)
    lengths = word_counts(untouched.prompts)
    return Proof(
        *untouched.pair,
        prompts=len(untouched),
        groups=count,
        ties=int((untouched.strong == untouched.weak).sum()),
        different=count - int(np.unique(means, return_counts=True)[1].max()),
        strong_wins=float((untouched.strong > untouched.weak).mean()),
        strong_quality=_interval(drawn.strong),
        weak_quality=_interval(drawn.weak),
        gap=_interval(drawn.strong - drawn.weak),
        weak_kept=_maybe(_ratio(drawn.weak, drawn.strong)),
        p_values=p_values({**known, LENGTH: lengths}, untouched.gap, untouched.groups, deals=deals, seed=seed),
        least_p_value=least_p_value(untouched.gap, untouched.groups),
        points=tuple(drawn.point(number, choice) for number, choice in enumerate(choices)),
        measured=_measured(known, benchmark, resamples, random_runs, seed, on_progress),
        band=_band(known[ADAPTED], benchmark, resamples, seed),
        labels=len(untouched) if all_labels is None else all_labels,
        settings={"seed": seed, "resamples": resamples, "deals": deals},
    )


def benchmark_of(labels: Labels, name: str = UNTOUCHED) -> Benchmark:
    """Return labels as prompts to evaluate on, drawn by groups."""
    costs = labels.costs_usd
    return Benchmark(
        name,
        labels.prompts,
        labels.strong,
        labels.weak,
        max_quality=1.0,
        dropped=0,
        pair=labels.pair,
        strong_cost_usd=None if costs is None else costs[:, 0],
        weak_cost_usd=None if costs is None else costs[:, 1],
        groups=labels.groups,
    )


class _Known:
    """A router whose win rates on some prompts are known."""

    kind = "win rates"

    def __init__(self, prompts: Sequence[str], win_rates: FloatArray) -> None:
        self._win_rates = dict(zip(prompts, win_rates.tolist(), strict=True))

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        return np.array([self._win_rates[prompt] for prompt in prompts])


def _measured(
    known: Mapping[str, FloatArray],
    benchmark: Benchmark,
    resamples: int,
    random_runs: int,
    seed: int,
    on_progress: OnStep | None,
) -> BenchmarkResult | None:
    if not benchmark.strong_quality.mean() > benchmark.weak_quality.mean():
        return None
    routers = {name: _Known(benchmark.prompts, values) for name, values in known.items()}
    # Money is counted only where costs of these answers are known: no price list of other people's.
    found = evaluate(
        routers,
        [benchmark],
        prices=PriceList({}),
        resamples=resamples,
        random_runs=random_runs,
        seed=seed,
        on_progress=on_progress,
    )
    return found.benchmarks[0]


def _band(scores: FloatArray, benchmark: Benchmark, resamples: int, seed: int) -> QualityBand:
    shares = np.linspace(0.0, 1.0, _BAND_SHARES)
    drawn = quality_draws({ADAPTED: scores}, benchmark, shares, resamples=resamples, seed=seed)[ADAPTED]
    found = [_interval(column) for column in drawn.T]
    return QualityBand(
        tuple(shares.round(_DECIMALS).tolist()), tuple(at.low for at in found), tuple(at.high for at in found)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Means over the prompts, first as they are, then on each resample: (1 + resamples,) each.

    Attributes:
        strong: Score of the strong model.
        weak: Score of the weak model.
        strong_usd: Cost of an answer of the strong model; None where that is not known, or nothing costs anything.
        weak_usd: The same for the weak model.
        shares: (1 + resamples, choices) strong share.
        quality: (1 + resamples, choices) score of the routed answers.
        routed_usd: (1 + resamples, choices) what they cost.
    """

    strong: FloatArray
    weak: FloatArray
    strong_usd: FloatArray | None
    weak_usd: FloatArray | None
    shares: FloatArray
    quality: FloatArray
    routed_usd: FloatArray | None

    @classmethod
    def of(cls, labels: Labels, scores: FloatArray, choices: Sequence[Choice], resamples: int, seed: int) -> _Drawn:
        is_strong = scores[:, None] >= np.array([choice.threshold for choice in choices])
        costs = labels.costs_usd
        if costs is not None and not costs.any():
            costs = None

        def routed(strong: FloatArray, weak: FloatArray) -> FloatArray:
            return np.where(is_strong, strong[:, None], weak[:, None])

        parts = [labels.strong[:, None], labels.weak[:, None], is_strong.astype(np.float64)]
        parts.append(routed(labels.strong, labels.weak))
        if costs is not None:
            parts += [costs, routed(costs[:, 0], costs[:, 1])]
        means = _means(np.concatenate(parts, axis=1), labels.groups, resamples, seed)
        strong, weak, shares, quality, *money = np.split(
            means, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1
        )
        both, routed_usd = money or (None, None)
        return cls(
            strong[:, 0],
            weak[:, 0],
            None if both is None else both[:, 0],
            None if both is None else both[:, 1],
            shares,
            quality,
            routed_usd,
        )

    def point(self, number: int, choice: Choice) -> AtThreshold:
        share, quality = self.shares[:, number], self.quality[:, number]
        gap = self.strong - self.weak
        # A mixture reaches nothing below the weak model or above the strong one.
        mixture = np.clip(_ratio(quality - self.weak, gap), 0.0, 1.0)
        return AtThreshold(
            choice,
            _interval(share),
            _interval(quality),
            _maybe(_ratio(quality, self.strong)),
            _interval(1.0 - share),
            _maybe(mixture),
            _maybe(mixture - share),
            self._money(number, mixture),
        )

    def _money(self, number: int, mixture: FloatArray) -> Money | None:
        if self.strong_usd is None or self.weak_usd is None or self.routed_usd is None or not self.strong_usd[0] > 0.0:
            return None
        routed = self.routed_usd[:, number]
        mixed = self.weak_usd + mixture * (self.strong_usd - self.weak_usd)
        saved = self.strong_usd - routed
        share = _ratio(saved, self.strong_usd)
        return Money(
            _usd(self.strong_usd),
            _usd(self.weak_usd),
            _usd(routed),
            _usd(saved),
            _interval(share),
            _maybe(mixed, decimals=_USD_DECIMALS),
            _maybe(mixed - routed, decimals=_USD_DECIMALS),
        )


def _means(columns: FloatArray, groups: Sequence[str], resamples: int, seed: int) -> FloatArray:
    """Return (1 + resamples, columns) means of the columns: over all rows, then over resamples of groups."""
    count, group = numbered(groups)
    sizes = np.bincount(group, minlength=count).astype(np.float64)
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, group, columns)
    return np.concatenate([drawn @ sums / (drawn @ sizes)[:, None] for drawn in _counts(count, resamples, seed)])


def _counts(count: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield (b, count) how often each group counts: once first, then as drawn."""
    yield np.ones((1, count))
    for drawn in resampled(count, resamples, seed):
        yield drawn.astype(np.float64)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """NaN where there is no whole."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0.0)


def _interval(values: FloatArray) -> Interval:
    """Value of the first, 95 % of the rest."""
    return Interval.of(float(values[0]), values[1:], decimals=_DECIMALS)


def _usd(values: FloatArray) -> Interval:
    return Interval.of(float(values[0]), values[1:], decimals=_USD_DECIMALS)


def _maybe(values: FloatArray, *, decimals: int = _DECIMALS) -> Interval | None:
    """The same; None where the prompts themselves leave it undefined. Resamples that do are left out."""
    return None if np.isnan(values[0]) else Interval.of(float(values[0]), values[1:], decimals=decimals)
