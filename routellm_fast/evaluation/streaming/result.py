"""From sketches to what a report shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError
from routellm_fast.evaluation.bootstrap import METRICS, Draws, interval
from routellm_fast.evaluation.metric_set import PairCosts, domain_apgr, domain_seed, listed_costs, metric_set
from routellm_fast.evaluation.metrics import BINS, PAPER_SHARES, Curve, FineCurve
from routellm_fast.evaluation.results import (
    LENGTH,
    ORACLE,
    RANDOM,
    BenchmarkResult,
    CurvePoints,
    DomainResult,
    Histogram,
    MetricSet,
    RouterResult,
)
from routellm_fast.evaluation.streaming.sketch import RESAMPLING_CELLS, QualitySketch
from routellm_fast.interval import Interval
from routellm_fast.prices import PriceList

if TYPE_CHECKING:
    from routellm_fast.evaluation.streaming.quality import StreamedQuality

_TARGETS: Final = (0.2, 0.5, 0.8)
_POINTS: Final = 100
_HISTOGRAM_BINS: Final = 60
_NORMAL_95: Final = 1.959964
_DOMAIN_CELLS: Final = 256
# Shares are sums of fractions: what should be equal may differ in the last bits.
_ROUNDING: Final = 1e-9

FloatArray = NDArray[np.float64]
OnProgress = Callable[[str, int, int], None]


def stream_result(
    name: str,
    found: StreamedQuality,
    *,
    prices: PriceList,
    max_quality: float,
    resamples: int,
    seed: int,
    on_progress: OnProgress,
) -> BenchmarkResult:
    """Return what a log came to. See StreamedQuality.result."""
    strong, weak = found.length.strong_quality, found.length.weak_quality
    if not strong > weak:
        raise DataError(
            f"{name}: {found.columns.strong!r} scores {strong:g} on average, {found.columns.weak!r} {weak:g}. APGR "
            "divides by what the strong model is better by, which must be above zero"
        )
    costs = listed_costs(ModelPair(found.columns.strong, found.columns.weak), prices)
    rows: list[RouterResult] = []
    scored = {**found.routers, LENGTH: found.length}
    for index, (router, sketch) in enumerate(scored.items()):
        on_progress(f"intervals of {router}", index, len(scored))
        draws = _draws(sketch, resamples, seed)
        metrics = _with_intervals(_values(sketch), draws, costs)
        points = _points(sketch.points(), costs, scale=float(1 << sketch.bits) if router == LENGTH else 1.0)
        is_router = router in found.routers
        domains = _domains(found.domains.get(router, {}), resamples, seed, on_progress) if is_router else {}
        histogram = _histogram(sketch) if is_router else None
        rows.append(RouterResult(router, "router" if is_router else "baseline", metrics, points, domains, histogram))
    rows.append(_random(found.length, costs))
    fine = found.oracle.points()
    oracle = _whole_shares(fine)
    values = dict(zip(METRICS, (oracle.apgr, _paper(fine), *map(oracle.cpt, _TARGETS)), strict=True))
    oracle_draws = _draws(found.oracle, resamples, seed)
    points = _points(fine, costs, scale=1.0)
    rows.append(RouterResult(ORACLE, "bound", _with_intervals(values, oracle_draws, costs), points))
    unscored = found.unscored
    return BenchmarkResult(
        name,
        found.rows,
        0,
        found.columns.strong,
        found.columns.weak,
        strong,
        weak,
        max_quality,
        tuple(rows),
        unscored=unscored,
        notes=tuple(_notes(found)),
    )


def _values(sketch: QualitySketch) -> dict[str, float]:
    curve = sketch.sweep()
    whole = sketch.points()
    values = (curve.apgr, _paper(whole), *map(curve.cpt, _TARGETS))
    return dict(zip(METRICS, values, strict=True))


def _paper(curve: Curve | FineCurve) -> float:
    quality = np.interp(PAPER_SHARES, curve.strong_share, curve.quality)
    return float((quality.mean() - curve.weak_quality) / (curve.strong_quality - curve.weak_quality))


def _whole_shares(curve: FineCurve) -> Curve:
    """The oracle's curve at ten shares: what it divides, prompts of one gain, may be divided anyhow."""
    shares = np.linspace(0.0, 1.0, BINS + 1)
    quality = np.interp(shares, curve.strong_share, curve.quality)
    return Curve(shares, quality, curve.strong_quality, curve.weak_quality)


def _draws(sketch: QualitySketch, resamples: int, seed: int, cells: int = RESAMPLING_CELLS) -> Draws:
    """The metrics of resamples, as `bootstrap` gives them; NaN where the strong model is not better."""
    parts = [_metrics(*curves) for curves in sketch.resamples(resamples, seed=seed, cells=cells)]
    return dict(zip(METRICS, np.concatenate(parts).T, strict=True))


def _metrics(share: FloatArray, quality: FloatArray) -> FloatArray:
    gap = quality[:, -1:] - quality[:, :1]
    defined = gap > 0.0
    pgr = (quality - quality[:, :1]) / np.where(defined, gap, 1.0)
    # A threshold takes all prompts of its win rate: the first cell that reaches a share, as a quantile's edge does.
    reached = _first_at_least(share, np.linspace(0.0, 1.0, BINS + 1) - _ROUNDING)
    x, y = np.take_along_axis(share, reached, axis=1), np.take_along_axis(pgr, reached, axis=1)
    after = _first_at_least(share, np.array(PAPER_SHARES))
    x0, x1 = (np.take_along_axis(share, after - step, axis=1) for step in (1, 0))
    y0, y1 = (np.take_along_axis(pgr, after - step, axis=1) for step in (1, 0))
    columns = [
        (np.diff(x) * (y[:, 1:] + y[:, :-1])).sum(axis=1) / 2.0,
        (y0 + (np.array(PAPER_SHARES) - x0) / (x1 - x0) * (y1 - y0)).mean(axis=1),
        *(np.array([np.interp(target, *row) for row in zip(y, x, strict=True)]) for target in _TARGETS),
    ]
    return np.asarray(np.where(defined, np.stack(columns, axis=1), np.nan), dtype=np.float64)


def _first_at_least(share: FloatArray, wanted: FloatArray) -> NDArray[np.intp]:
    """(b, w) index of the first share in each rising row that is at least each wanted one."""
    return np.stack([(share < one).sum(axis=1) for one in wanted], axis=1)


def _with_intervals(values: dict[str, float], draws: Draws, costs: PairCosts | None) -> MetricSet:
    return metric_set({name: interval(values[name], draws[name]) for name in METRICS}, costs)


def _random(sketch: QualitySketch, costs: PairCosts | None) -> RouterResult:
    """Random routing, whose curve is a straight line and whose spread over runs is known without a run.

    A share c chosen at random out of n prompts has a mean gain of variance v c (1 - c) / n, v being that of the gains;
    the area under it has v / 12 n.
    """
    gap = sketch.strong_quality - sketch.weak_quality
    unit = _NORMAL_95 * sketch.gain_deviation / (gap * math.sqrt(sketch.rows))
    apgr = Interval(0.5, 0.5 - unit / math.sqrt(12.0), 0.5 + unit / math.sqrt(12.0))
    found = {"apgr_routellm": apgr, "apgr_paper": apgr}
    for metric, target in zip(METRICS[2:], _TARGETS, strict=True):
        half = unit * math.sqrt(target * (1.0 - target))
        found[metric] = Interval(target, max(target - half, 0.0), min(target + half, 1.0))
    shares = np.linspace(0.0, 1.0, _POINTS + 1)
    line = FineCurve(
        shares, sketch.weak_quality + gap * shares, 1.0 - shares, sketch.strong_quality, sketch.weak_quality
    )
    return RouterResult(RANDOM, "baseline", metric_set(found, costs), _points(line, costs, scale=1.0))


def _points(curve: FineCurve, costs: PairCosts | None, *, scale: float) -> CurvePoints:
    wanted = np.linspace(0.0, 1.0, _POINTS + 1) - _ROUNDING
    chosen = np.unique(np.searchsorted(curve.strong_share, wanted))
    share = curve.strong_share[chosen]
    cost = None if costs is None else tuple((1000.0 * (costs[1] + share * (costs[0] - costs[1]))).tolist())
    threshold = tuple((curve.threshold[chosen] * scale).tolist())
    return CurvePoints(tuple(share.tolist()), tuple(curve.quality[chosen].tolist()), threshold, cost)


def _domains(
    sketches: dict[str, QualitySketch], resamples: int, seed: int, on_progress: OnProgress
) -> dict[str, DomainResult]:
    found = {}
    for index, (domain, sketch) in enumerate(sorted(sketches.items())):
        on_progress("domains", index, len(sketches))
        gap = sketch.strong_quality - sketch.weak_quality
        apgr = None
        if gap > 0.0:
            draws = _draws(sketch, resamples, domain_seed(domain, seed), _DOMAIN_CELLS)
            apgr = domain_apgr(sketch.sweep().apgr, draws)
        found[domain] = DomainResult(sketch.rows, gap, apgr)
    return found


def _histogram(sketch: QualitySketch) -> Histogram:
    edges, counts = sketch.histogram(_HISTOGRAM_BINS)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def _notes(found: StreamedQuality) -> Iterable[str]:
    yield (
        f"Read as a stream: win rates are rounded down to multiples of {2.0**-found.length.bits:.1g}, and differences "
        "of routers, which need all prompts at once, are left out."
    )
    for router, sketch in found.routers.items():
        if len(sketch.points().strong_share) == 2:
            yield f"Router {router!r} gives every prompt the same win rate: it decides nothing."
    for reason, count in sorted(found.bad_rows.items()):
        yield f"Rows left out: {count:,} ({reason})."
    if found.examples:
        yield f"Examples of rows left out: {'; '.join(found.examples)}."
