"""The metrics of routers on a benchmark; `evaluation.curves` defines each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.curves import BINS, Curve, FineCurve
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.levels import Levels
from routellm_fast.texts import word_counts

_RANDOM_RUNS: Final = 10


@dataclass(frozen=True, slots=True)
class Metrics:
    """One row of a results table.

    Attributes:
        name: Name of the router.
        apgr: Area under PGR; 0.5 is chance.
        cpt20: Strong share for 20 % PGR, in [0, 1].
        cpt50: Strong share for 50 % PGR.
        cpt80: Strong share for 80 % PGR.
        apgr_deviation: Standard deviation of apgr over runs; 0 for a deterministic router.
    """

    name: str
    apgr: float
    cpt20: float
    cpt50: float
    cpt80: float
    apgr_deviation: float = 0.0

    @classmethod
    def of(cls, name: str, curve: Curve, *, apgr_deviation: float = 0.0) -> Metrics:
        """Read the numbers off a curve."""
        return cls(name, curve.apgr, curve.cpt(0.2), curve.cpt(0.5), curve.cpt(0.8), apgr_deviation)


def sweep(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark, *, bins: int = BINS) -> Curve:
    """Route a benchmark at every quantile of its own win rates.

    Thresholds are the bins + 1 quantile edges; a prompt goes to the strong model at or above a threshold, and above
    it at the last one, so that the curve ends where no prompt does.

    Where many win rates are equal, edges coincide and pandas.qcut, thus RouteLLM, raises; here points that coincide
    count once. A constant win rate gives the two ends of the curve, hence an APGR of 0.5.

    Args:
        win_rates: (n,) finite, one a prompt of the benchmark; any increasing score will do.
        benchmark: The prompts that are routed, with both models' qualities.
        bins: Number of bins between the quantiles.

    Raises:
        InvalidArgumentError: The shape is another, or a win rate is not finite.

    Source:
        RouteLLM's evals/benchmarks.py, `evaluate` of its benchmark classes.
    """
    return levels_of(win_rates, benchmark).sweep(bins)


def check_scores(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark) -> NDArray[np.float64]:
    """Return win rates as float64. Raises InvalidArgumentError where the shape is another or one is not finite."""
    scores = np.asarray(win_rates, dtype=np.float64)
    if scores.shape != benchmark.strong_quality.shape:
        raise InvalidArgumentError(
            f"expected {len(benchmark.prompts)} finite win rates for {benchmark.name}, found shape {scores.shape}"
        )
    if bad := np.flatnonzero(~np.isfinite(scores)).tolist():
        raise InvalidArgumentError(
            f"expected {len(benchmark.prompts)} finite win rates for {benchmark.name}, found {len(bad)} that are not, "
            f"the first {scores[bad[0]]} at prompt {bad[0]}"
        )
    return scores


def levels_of(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark) -> Levels:
    """Return what a router does with a benchmark. Raises InvalidArgumentError; see sweep."""
    strong_cost, weak_cost = benchmark.strong_cost_usd, benchmark.weak_cost_usd
    return Levels.of(
        check_scores(win_rates, benchmark),
        benchmark.strong_quality,
        benchmark.weak_quality,
        None if strong_cost is None or weak_cost is None else strong_cost - weak_cost,
    )


def fine_curve(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark, *, points: int = 100) -> FineCurve:
    """Route a benchmark at about equally spaced strong shares, for plots and for reading off thresholds.

    Prompts of one win rate cannot be divided, so that ties make steps. Raises InvalidArgumentError; see sweep.
    """
    return levels_of(win_rates, benchmark).curve(points)


def apgr_paper(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark) -> float:
    """Return the mean of PGR at curves.PAPER_SHARES; prompts of one win rate that a share divides go in proportion.

    Raises:
        DataError: Both models are equally good.
        InvalidArgumentError: See sweep.
    """
    return levels_of(win_rates, benchmark).values(benchmark.name)["apgr_paper"]


def router_metrics(name: str, win_rates: NDArray[np.floating[Any]], benchmark: Benchmark) -> Metrics:
    """Return the metrics of a router's win rates.

    Raises:
        DataError: Both models are equally good.
        InvalidArgumentError: See sweep.
    """
    values = levels_of(win_rates, benchmark).values(benchmark.name)
    return Metrics(name, values["apgr_routellm"], values["cpt20"], values["cpt50"], values["cpt80"])


def random_metrics(benchmark: Benchmark, *, seed: int = 0) -> Metrics:
    """Return the metrics of ten random routers' mean curve, and the deviation of their APGR."""
    generator = np.random.default_rng(seed)
    curves = [sweep(generator.random(len(benchmark.prompts)), benchmark) for _ in range(_RANDOM_RUNS)]
    quality = np.mean([curve.quality for curve in curves], axis=0)
    mean = Curve(curves[0].strong_share, quality, curves[0].strong_quality, curves[0].weak_quality)
    return Metrics.of("random", mean, apgr_deviation=float(np.std([curve.apgr for curve in curves], ddof=1)))


def length_metrics(benchmark: Benchmark) -> Metrics:
    """Return the metrics of routing by the number of words alone: longer prompts go to the strong model."""
    return router_metrics("prompt length", word_counts(benchmark.prompts), benchmark)


def oracle_ranks(benchmark: Benchmark) -> NDArray[np.float64]:
    """Return (n,) scores, all different, that rise with what the strong model gains: the order of the oracle."""
    order = np.argsort(benchmark.strong_quality - benchmark.weak_quality, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return ranks


def oracle_metrics(benchmark: Benchmark) -> Metrics:
    """Return the metrics of a router that knows both answers' quality: the most that routing can reach."""
    return router_metrics("oracle", oracle_ranks(benchmark), benchmark)
