"""From what routers do with some prompts to the rows that a report shows; the same for benchmarks and for logs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError
from routellm_fast.evaluation.bootstrap import interval
from routellm_fast.evaluation.curves import CHANCE, METRICS, Draws, FineCurve, FloatArray
from routellm_fast.evaluation.levels import Levels
from routellm_fast.evaluation.metric_set import PairCosts, metric_set
from routellm_fast.evaluation.results import (
    LENGTH,
    ORACLE,
    RANDOM,
    CurvePoints,
    DomainResult,
    Histogram,
    Role,
    RouterResult,
)
from routellm_fast.interval import Interval

_POINTS: Final = 100
_HISTOGRAM_BINS: Final = 40
# Above this, a note warns that intervals are wide.
_WIDE: Final = 0.1
# Fewer leave less than three beyond each end of an interval.
_FEW_RESAMPLES: Final = 100
# The share of resamples on which the strong model may fail to be better; a domain with more has no APGR.
_MAX_UNDEFINED: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One router on some prompts.

    Attributes:
        levels: The router's win rates as levels, with counts and gains.
        values: The router's metrics, by the names of curves.METRICS.
        draws: The same metrics on resamples of the prompts.
        domains: The router's results within each domain, by name.
    """

    levels: Levels
    values: Mapping[str, float]
    draws: Draws
    domains: Mapping[str, DomainResult]

    @classmethod
    def of(cls, levels: Levels, draws: Draws, domains: Mapping[str, DomainResult] | None = None) -> Measured:
        """Add the metrics to what was found. Raises DataError where both models are equally good."""
        return cls(levels, levels.values(), draws, domains or {})


def check_gap(name: str, pair: ModelPair, strong_quality: float, weak_quality: float) -> None:
    """Raise DataError, which starts with the name of the prompts, unless the strong model is better on average."""
    if strong_quality > weak_quality:
        return
    advice = "swap the two" if strong_quality < weak_quality else "compare other models"
    raise DataError(
        f"{name}: {pair.strong!r} scores {strong_quality:g} on average, {pair.weak!r} {weak_quality:g}. "
        f"APGR divides by what the strong model is better by, which must be above zero: {advice}"
    )


def result_rows(
    measured: Mapping[str, Measured], random: Mapping[str, Interval], costs: PairCosts | None
) -> tuple[RouterResult, ...]:
    """Return the rows of a results table: routers, prompt length, random routing, then the oracle.

    Args:
        measured: The routers, prompt length and the oracle, by name and in the order of the rows.
        random: The metrics of random routing, by the names of curves.METRICS.
        costs: Mean cost of an answer of the strong and of the weak model, in US dollars; None where it is not known.
    """
    rows = [_row(name, found, costs) for name, found in measured.items()]
    rows.insert(len(rows) - 1, _random_row(measured[LENGTH].levels, random, costs))
    return tuple(rows)


def random_intervals(draws: Draws) -> dict[str, Interval]:
    """Return the metrics of random routing: their expectation, and their spread over runs."""
    return {name: interval(CHANCE[name], draws[name]) for name in METRICS}


def domain_result(levels: Levels, draws: Draws | None) -> DomainResult:
    """Return a router's results within one domain, without APGR where the gap is too uncertain to divide by.

    Args:
        levels: What the router does with the prompts of the domain.
        draws: APGR on resamples of these; None where the strong model is not better on them.
    """
    apgr = None
    if draws is not None and np.isnan(draws["apgr_routellm"]).mean() <= _MAX_UNDEFINED:
        apgr = interval(levels.values()["apgr_routellm"], draws["apgr_routellm"])
    return DomainResult(levels.prompts, levels.strong_quality - levels.weak_quality, apgr)


def domain_seed(domain: str, seed: int) -> int:
    """Return a domain's own seed: what is found in it does not depend on which other domains there are."""
    return zlib.crc32(domain.encode("utf-8", "surrogatepass")) ^ seed


def notes_on(rows: Sequence[RouterResult], measured: Mapping[str, Measured]) -> Iterator[str]:
    """Yield what a reader of the rows must know, one sentence each."""
    prompts, apgr = measured[LENGTH].levels.prompts, measured[LENGTH].draws["apgr_routellm"]
    widest = max(row.metrics.apgr_routellm.width for row in rows if row.role == "router" or row.name == LENGTH)
    if widest > _WIDE:
        yield (
            f"{prompts:,} prompts are few: 95 % intervals of APGR are up to {widest:.2f} wide, and smaller differences "
            "say little."
        )
    if len(apgr) < _FEW_RESAMPLES:
        yield (f"{len(apgr):,} resamples are too few for the ends of a 95 % interval: take {_FEW_RESAMPLES:,} or more.")
    if undefined := int(np.isnan(apgr).sum()):
        yield (
            f"On {undefined:,} of {len(apgr):,} resamples the strong model was not better; intervals leave them out, "
            "and are too narrow by that."
        )
    for row in rows:
        if row.role == "router" and len(measured[row.name].levels.win_rates) == 1:
            yield f"Router {row.name!r} gives every prompt the same win rate: it decides nothing."


def _row(name: str, found: Measured, costs: PairCosts | None) -> RouterResult:
    role: Role = "bound" if name == ORACLE else "baseline" if name == LENGTH else "router"
    metrics = metric_set({metric: interval(found.values[metric], found.draws[metric]) for metric in METRICS}, costs)
    histogram = _histogram(found.levels) if role == "router" else None
    return RouterResult(name, role, metrics, _points(found.levels, costs), found.domains, histogram)


def _random_row(levels: Levels, found: Mapping[str, Interval], costs: PairCosts | None) -> RouterResult:
    """Return the row of random routing, whose curve is a straight line."""
    strong, weak = levels.strong_quality, levels.weak_quality
    shares = np.linspace(0.0, 1.0, _POINTS + 1)
    line = FineCurve(shares, weak + shares * (strong - weak), 1.0 - shares, strong, weak)
    points = _curve_points(line, None if costs is None else _mean_cost_usd(costs, shares))
    return RouterResult(RANDOM, "baseline", metric_set(found, costs), points)


def _points(levels: Levels, costs: PairCosts | None) -> CurvePoints:
    curve = levels.curve(_POINTS)
    if costs is None:
        return _curve_points(curve, None)
    # Where it is known, what these very answers cost: a router may send the long ones to one of the models.
    extra_usd = levels.extra_usd_at(_POINTS)
    spent_usd = _mean_cost_usd(costs, curve.strong_share) if extra_usd is None else costs[1] + extra_usd
    return _curve_points(curve, spent_usd)


def _mean_cost_usd(costs: PairCosts, strong_share: FloatArray) -> FloatArray:
    return costs[1] + strong_share * (costs[0] - costs[1])


def _curve_points(curve: FineCurve, cost_usd: FloatArray | None) -> CurvePoints:
    columns = (curve.strong_share, curve.quality, curve.threshold)
    share, quality, threshold = (tuple(column.tolist()) for column in columns)
    return CurvePoints(share, quality, threshold, None if cost_usd is None else tuple((1000.0 * cost_usd).tolist()))


def _histogram(levels: Levels) -> Histogram:
    edges, counts = levels.histogram(_HISTOGRAM_BINS)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))
