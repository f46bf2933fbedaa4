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
from routellm_fast.evaluation.bootstrap import bootstrap, interval, random_runs
from routellm_fast.evaluation.curves import Draws
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.metric_set import PairCosts, listed_costs
from routellm_fast.evaluation.metrics import levels_of, oracle_ranks
from routellm_fast.evaluation.results import (
    BASELINES,
    LENGTH,
    ORACLE,
    BenchmarkResult,
    Difference,
    DomainResult,
    Evaluation,
)
from routellm_fast.evaluation.summary import (
    Measured,
    check_gap,
    domain_result,
    domain_seed,
    notes_on,
    random_intervals,
    result_rows,
)
from routellm_fast.evaluation.win_rates import RouterIdentity, Scorer, cached_win_rates
from routellm_fast.prices import PriceList
from routellm_fast.scoring import OnStep
from routellm_fast.texts import word_counts

RANDOM_RUNS: Final = 500


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
    on_progress: OnStep | None = None,
) -> Evaluation:
    """Evaluate routers side by side; prompt length, random routing and the oracle are always there.

    Args:
        routers: Routers by the name that results show. The others are compared with the first one.
        benchmarks: Benchmarks to route, e.g. from read_benchmarks or read_table_benchmark.
        prices: PriceList of the models; None takes the paper's. A benchmark's own cost of each answer goes before them.
        resamples: Number of bootstrap resamples behind each 95 % interval.
        random_runs: Number of runs of random routing; its interval is over runs.
        seed: Seed of resamples and random runs.
        identities: Which routers these are, for the record; only routers with a digest are cached.
        cache: Folder in which win rates are kept by digest of router and prompts.
        created: Date for the record, ISO 8601; None takes today's.
        streamed: Results of logs that were read in pieces (`evaluation.streaming`), for the same record.
        on_progress: Called with what is done, how many steps of it, and of how many.

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
        strong, weak = float(benchmark.strong_quality.mean()), float(benchmark.weak_quality.mean())
        check_gap(benchmark.name, benchmark.pair, strong, weak)
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
    on_progress: OnStep


def _record(router: Scorer, identity: RouterIdentity) -> dict[str, str]:
    kind = str(getattr(router, "kind", type(router).__name__))
    return {"directory": identity.directory, "kind": kind, "digest": identity.digest}


def _compare(
    win_rates: Mapping[str, NDArray[np.float64]], benchmark: Benchmark, settings: _Settings
) -> BenchmarkResult:
    scores = {**win_rates, LENGTH: word_counts(benchmark.prompts), ORACLE: oracle_ranks(benchmark)}
    settings.on_progress(f"intervals on {benchmark.name}", 0, 1)
    draws = bootstrap(scores, benchmark, resamples=settings.resamples, seed=settings.seed)
    domains = _domains({name: scores[name] for name in (*win_rates, LENGTH)}, benchmark, settings)
    measured = {
        name: Measured.of(levels_of(scores[name], benchmark), draws[name], domains.get(name)) for name in scores
    }
    chance = random_intervals(random_runs(benchmark, runs=settings.random_runs, seed=settings.seed))
    rows = result_rows(measured, chance, _costs(benchmark, settings.prices))
    return BenchmarkResult(
        benchmark.name,
        len(benchmark.prompts),
        benchmark.dropped,
        *benchmark.pair,
        measured[LENGTH].levels.strong_quality,
        measured[LENGTH].levels.weak_quality,
        benchmark.max_quality,
        rows,
        _differences(list(win_rates), measured),
        benchmark.overlapping,
        benchmark.unscored,
        tuple(notes_on(rows, measured)),
    )


def _costs(benchmark: Benchmark, prices: PriceList) -> PairCosts | None:
    """Return what an answer of the strong and of the weak model costs on average; None where that is not known."""
    if benchmark.strong_cost_usd is not None and benchmark.weak_cost_usd is not None:
        measured = float(benchmark.strong_cost_usd.mean()), float(benchmark.weak_cost_usd.mean())
        return measured if max(measured) > 0.0 else None
    return listed_costs(benchmark.pair, prices)


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
        own = {name: values[rows] for name, values in scores.items()}
        draws: dict[str, Draws] = {}
        if part.strong_quality.mean() > part.weak_quality.mean():
            seed = domain_seed(domain, settings.seed)
            draws = bootstrap(own, part, resamples=settings.resamples, seed=seed, with_cpt=False)
        for name, values in own.items():
            found[name][domain] = domain_result(levels_of(values, part), draws.get(name))
    return found


def _differences(routers: Sequence[str], measured: Mapping[str, Measured]) -> tuple[Difference, ...]:
    against = [(name, other) for name in routers for other in (routers[0], LENGTH) if name != other]
    metric = "apgr_routellm"
    return tuple(
        Difference(
            name,
            other,
            interval(
                measured[name].values[metric] - measured[other].values[metric],
                measured[name].draws[metric] - measured[other].draws[metric],
            ),
        )
        for name, other in against
    )
