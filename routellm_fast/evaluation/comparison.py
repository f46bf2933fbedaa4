"""Several routers side by side on several benchmarks, with baselines, bounds and intervals."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast import _core
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.bootstrap import METRICS, Draws, bootstrap, interval, random_runs
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.metric_set import PairCosts, domain_apgr, domain_seed, listed_costs, metric_set
from routellm_fast.evaluation.metrics import (
    FineCurve,
    apgr_paper,
    fine_curve,
    oracle_ranks,
    router_metrics,
    word_counts,
)
from routellm_fast.evaluation.results import (
    BASELINES,
    LENGTH,
    ORACLE,
    RANDOM,
    BenchmarkResult,
    CurvePoints,
    Difference,
    DomainResult,
    Evaluation,
    Histogram,
    MetricSet,
    Role,
    RouterResult,
)
from routellm_fast.evaluation.win_rates import OnProgress, RouterIdentity, Scorer, cached_win_rates
from routellm_fast.prices import PriceList

RANDOM_RUNS: Final = 500
_HISTOGRAM_BINS: Final = 40
# Above this, the note of a benchmark warns that its intervals are wide.
_WIDE: Final = 0.1
# Fewer leave less than three beyond each end of an interval.
_FEW_RESAMPLES: Final = 100


def evaluate(
    routers: Mapping[str, Scorer],
    benchmarks: Iterable[Benchmark],
    *,
    prices: PriceList | None = None,
    resamples: int = 2000,
    random_runs: int = RANDOM_RUNS,
    seed: int = 0,
    identities: Mapping[str, RouterIdentity] | None = None,
    cache: Path | None = None,
    created: str | None = None,
    streamed: Sequence[BenchmarkResult] = (),
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Evaluate routers side by side; prompt length, random routing and the oracle are always there.

    Args:
        routers: By the name that results show. The others are held against the first one.
        benchmarks: What is routed, e.g. of read_benchmarks or read_table_benchmark.
        prices: What models cost; none: the paper's. Where a benchmark has the cost of each answer, that counts.
        resamples: Of the bootstrap behind each 95 % interval.
        random_runs: Of random routing, whose interval is over runs.
        seed: Of resamples and random runs.
        identities: Of routers, for the record; only routers with a digest are cached.
        cache: Folder in which win rates are kept by digest of router and prompts.
        created: Date, for the record; none: today.
        streamed: Results of logs that were read in pieces (`evaluation.streaming`), for the same record.
        on_progress: Called as work gets on.

    Raises:
        DataError: There is no benchmark, or the strong model is not better on one, so that APGR is undefined.
        InvalidArgumentError: A router's name is a baseline's, or its win rates are not finite or of a wrong shape; a
            count is not positive.
    """
    if taken := BASELINES.intersection(routers):
        raise InvalidArgumentError(
            f"{min(taken)!r} is the name of a baseline, which is always shown: name the router otherwise"
        )
    for count, what in ((resamples, "resamples"), (random_runs, "random runs")):
        if count < 1:
            raise InvalidArgumentError(f"the number of {what} must be positive, found {count}")
    chosen, identities = prices or PriceList(), identities or {}
    settings = _Settings(chosen, resamples, random_runs, seed, on_progress or (lambda *_: None))
    found = []
    for benchmark in benchmarks:
        _check_gap(benchmark)
        win_rates = {
            name: cached_win_rates(
                name, router, benchmark, cache, identities.get(name, RouterIdentity()).digest, settings.on_progress
            )
            for name, router in routers.items()
        }
        found.append(_compare(win_rates, benchmark, settings))
    found += streamed
    if not found:
        raise DataError("there is no benchmark to evaluate on")
    return Evaluation(
        created or datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
        {name: _record(router, identities.get(name, RouterIdentity())) for name, router in routers.items()},
        tuple(found),
        {
            "seed": seed,
            "resamples": resamples,
            "random_runs": random_runs,
            "prices": chosen.to_json(),
            "version": _core.__version__,
        },
    )


@dataclass(frozen=True, slots=True)
class _Settings:
    prices: PriceList
    resamples: int
    random_runs: int
    seed: int
    on_progress: OnProgress


def _record(router: Scorer, identity: RouterIdentity) -> dict[str, str]:
    kind = str(getattr(router, "kind", type(router).__name__))
    return {"directory": identity.directory, "kind": kind, "digest": identity.digest}


def _check_gap(benchmark: Benchmark) -> None:
    strong, weak = benchmark.strong_quality.mean(), benchmark.weak_quality.mean()
    if strong > weak:
        return
    advice = "swap the two" if strong < weak else "compare other models"
    raise DataError(
        f"{benchmark.name}: {benchmark.pair.strong!r} scores {strong:g} on average, {benchmark.pair.weak!r} {weak:g}. "
        f"APGR divides by what the strong model is better by, which must be above zero: {advice}"
    )


def _compare(
    win_rates: Mapping[str, NDArray[np.float64]], benchmark: Benchmark, settings: _Settings
) -> BenchmarkResult:
    scores = {**win_rates, LENGTH: word_counts(benchmark), ORACLE: oracle_ranks(benchmark)}
    settings.on_progress(f"intervals on {benchmark.name}", 0, 1)
    draws = bootstrap(scores, benchmark, resamples=settings.resamples, seed=settings.seed)
    costs = _costs(benchmark, settings.prices)
    domains = _domains({name: scores[name] for name in (*win_rates, LENGTH)}, benchmark, settings)
    rows = [
        RouterResult(
            name,
            _role(name),
            _with_intervals(_values(scores[name], benchmark), draws[name], costs),
            _points(fine_curve(scores[name], benchmark), scores[name], benchmark, costs),
            domains.get(name, {}),
            _histogram(scores[name]) if name in win_rates else None,
        )
        for name in scores
    ]
    rows.insert(len(win_rates) + 1, _random(benchmark, costs, settings))
    strong, weak = float(benchmark.strong_quality.mean()), float(benchmark.weak_quality.mean())
    return BenchmarkResult(
        benchmark.name,
        len(benchmark.prompts),
        benchmark.dropped,
        *benchmark.pair,
        strong,
        weak,
        benchmark.max_quality,
        tuple(rows),
        _differences(list(win_rates), scores, draws, benchmark),
        benchmark.overlapping,
        benchmark.unscored,
        _notes(rows, scores, draws, benchmark),
    )


def _role(name: str) -> Role:
    return "bound" if name == ORACLE else "baseline" if name in (LENGTH, RANDOM) else "router"


def _values(scores: NDArray[np.float64], benchmark: Benchmark) -> dict[str, float]:
    metrics = router_metrics("", scores, benchmark)
    values = (metrics.apgr, apgr_paper(scores, benchmark), metrics.cpt20, metrics.cpt50, metrics.cpt80)
    return dict(zip(METRICS, values, strict=True))


def _with_intervals(values: Mapping[str, float], draws: Draws, costs: PairCosts | None) -> MetricSet:
    return metric_set({name: interval(values[name], draws[name]) for name in METRICS}, costs)


def _random(benchmark: Benchmark, costs: PairCosts | None, settings: _Settings) -> RouterResult:
    """Return random routing: what it does in expectation, which is a straight line, and its spread over runs."""
    draws = random_runs(benchmark, runs=settings.random_runs, seed=settings.seed)
    values = dict(zip(METRICS, (0.5, 0.5, 0.2, 0.5, 0.8), strict=True))
    shares = np.linspace(0.0, 1.0, 101)
    strong, weak = float(benchmark.strong_quality.mean()), float(benchmark.weak_quality.mean())
    line = FineCurve(shares, weak + shares * (strong - weak), 1.0 - shares, strong, weak)
    cost = None if costs is None else tuple((1000.0 * (costs[1] + shares * (costs[0] - costs[1]))).tolist())
    return RouterResult(RANDOM, "baseline", _with_intervals(values, draws, costs), _curve_points(line, cost))


def _costs(benchmark: Benchmark, prices: PriceList) -> PairCosts | None:
    """Return what an answer of the strong and of the weak model costs on average; None where that is not known."""
    if benchmark.strong_cost_usd is not None and benchmark.weak_cost_usd is not None:
        measured = float(benchmark.strong_cost_usd.mean()), float(benchmark.weak_cost_usd.mean())
        return measured if max(measured) > 0.0 else None
    return listed_costs(benchmark.pair, prices)


def _points(
    curve: FineCurve, scores: NDArray[np.float64], benchmark: Benchmark, costs: PairCosts | None
) -> CurvePoints:
    if costs is None:
        return _curve_points(curve, None)
    if benchmark.strong_cost_usd is None or benchmark.weak_cost_usd is None:
        spent = costs[1] + curve.strong_share * (costs[0] - costs[1])
    else:
        # What these very answers cost: a router may send the long ones to one of the models.
        more = (benchmark.strong_cost_usd - benchmark.weak_cost_usd)[np.argsort(-scores, kind="stable")]
        counts = np.rint(curve.strong_share * len(more)).astype(np.intp)
        spent = costs[1] + np.append(0.0, more.cumsum())[counts] / len(more)
    return _curve_points(curve, tuple((1000.0 * spent).tolist()))


def _curve_points(curve: FineCurve, cost: tuple[float, ...] | None) -> CurvePoints:
    columns = (curve.strong_share, curve.quality, curve.threshold)
    share, quality, threshold = (tuple(column.tolist()) for column in columns)
    return CurvePoints(share, quality, threshold, cost)


def _histogram(scores: NDArray[np.float64]) -> Histogram:
    counts, edges = np.histogram(scores, bins=_HISTOGRAM_BINS)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def _domains(
    scores: Mapping[str, NDArray[np.float64]], benchmark: Benchmark, settings: _Settings
) -> dict[str, dict[str, DomainResult]]:
    names = sorted(set(benchmark.domains))
    found: dict[str, dict[str, DomainResult]] = {name: {} for name in scores}
    labels = np.array(benchmark.domains)
    for index, domain in enumerate(names):
        settings.on_progress(f"domains of {benchmark.name}", index, len(names))
        rows = np.flatnonzero(labels == domain)
        part = benchmark.select(rows)
        gap = float(part.strong_quality.mean() - part.weak_quality.mean())
        own = {name: values[rows] for name, values in scores.items()}
        seed = domain_seed(domain, settings.seed)
        draws = bootstrap(own, part, resamples=settings.resamples, seed=seed, with_cpt=False) if gap > 0.0 else {}
        for name, values in own.items():
            apgr = domain_apgr(router_metrics("", values, part).apgr, draws[name]) if draws else None
            found[name][domain] = DomainResult(len(rows), gap, apgr)
    return found


def _differences(
    routers: Sequence[str], scores: Mapping[str, NDArray[np.float64]], draws: Mapping[str, Draws], benchmark: Benchmark
) -> tuple[Difference, ...]:
    apgr = {name: router_metrics("", scores[name], benchmark).apgr for name in (*routers, LENGTH)}
    against = [(name, other) for name in routers for other in (routers[0], LENGTH) if name != other]
    return tuple(
        Difference(
            name,
            other,
            interval(apgr[name] - apgr[other], draws[name]["apgr_routellm"] - draws[other]["apgr_routellm"]),
        )
        for name, other in against
    )


def _notes(
    rows: Sequence[RouterResult],
    scores: Mapping[str, NDArray[np.float64]],
    draws: Mapping[str, Draws],
    benchmark: Benchmark,
) -> tuple[str, ...]:
    notes = []
    widths = [row.metrics.apgr_routellm.width for row in rows if row.role == "router" or row.name == LENGTH]
    if max(widths) > _WIDE:
        notes.append(
            f"{len(benchmark.prompts):,} prompts are few: 95 % intervals of APGR are up to {max(widths):.2f} wide, and "
            "smaller differences say little."
        )
    total = len(draws[LENGTH]["apgr_routellm"])
    if total < _FEW_RESAMPLES:
        notes.append(
            f"{total:,} resamples are too few for the ends of a 95 % interval: take {_FEW_RESAMPLES:,} or more."
        )
    if undefined := int(np.isnan(draws[LENGTH]["apgr_routellm"]).sum()):
        notes.append(
            f"On {undefined:,} of {total:,} resamples the strong model was not better; intervals leave them out, and "
            "are too narrow by that."
        )
    constant = [row.name for row in rows if row.role == "router" and np.ptp(scores[row.name]) == 0.0]
    notes += [f"Router {name!r} gives every prompt the same win rate: it decides nothing." for name in constant]
    if benchmark.overlapping:
        notes.append(f"{benchmark.overlapping:,} prompts were left out because the training data named hold them.")
    if benchmark.unscored:
        notes.append(f"{benchmark.unscored:,} prompts were left out because one of the models has no score on them.")
    return tuple(notes)
