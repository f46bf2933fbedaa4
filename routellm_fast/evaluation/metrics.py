"""RouteLLM's metrics of a router on a benchmark, restated in numpy.

c is the share of prompts that go to the strong model. PGR, the performance gap recovered, is
(quality - weak) / (strong - weak); APGR is the area under PGR over c, and CPT(x) the least c that reaches PGR x. The
numbers are those of RouteLLM's `evals/evaluate.py` where that gives any, its quirks included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.datasets import Benchmark

_BINS: Final = 10
_RANDOM_RUNS: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Quality against cost of one router.

    Attributes:
        strong_share: (t,) float64 in [0, 1], rising.
        quality: (t,) float64, mean quality of the answers at each share.
        strong_quality: Mean quality of the strong model alone.
        weak_quality: Mean quality of the weak model alone.
    """

    strong_share: NDArray[np.float64]
    quality: NDArray[np.float64]
    strong_quality: float
    weak_quality: float

    @property
    def apgr(self) -> float:
        """Area between the curve and the weak model's line, over that between the two models' lines.

        All three areas are taken over the curve's own range of c, as RouteLLM does.
        """
        # numpy 1 and 2 have no common name for it.
        steps = np.diff(self.strong_share)
        area = float(steps @ (self.quality[1:] + self.quality[:-1])) / 2.0
        width = self.strong_share[-1] - self.strong_share[0]
        return float((area - self.weak_quality * width) / ((self.strong_quality - self.weak_quality) * width))

    def cpt(self, pgr: float) -> float:
        """Strong share, in [0, 1], at which this PGR is reached.

        RouteLLM's numpy.interp over quality as it stands: where the curve is not monotone, that is neither the first
        nor the last crossing but what a binary search meets.
        """
        wanted = pgr * (self.strong_quality - self.weak_quality) + self.weak_quality
        return float(np.interp(wanted, self.quality, self.strong_share))


@dataclass(frozen=True, slots=True)
class Metrics:
    """One row of a results table.

    Attributes:
        name: Of the router.
        apgr: Area under PGR; 0.5 is chance.
        cpt20: Strong share for 20 % PGR, in [0, 1].
        cpt50: For 50 %.
        cpt80: For 80 %.
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


def sweep(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark, *, bins: int = _BINS) -> Curve:
    """Route a benchmark at every quantile of its own win rates.

    Thresholds are the bins + 1 quantile edges; a prompt goes to the strong model at or above a threshold, and above
    it at the last one, so that the curve ends where no prompt does.

    Where many win rates are equal, edges coincide and pandas.qcut, thus RouteLLM, raises; here equal edges count
    once. A constant win rate gives the two ends of the curve, hence an APGR of 0.5.

    Args:
        win_rates: (n,) finite, one a prompt of the benchmark; any increasing score will do.
        benchmark: What is routed.
        bins: How many bins.

    Raises:
        InvalidArgumentError: The shape is another, or a win rate is not finite.

    Source:
        RouteLLM's evals/benchmarks.py, `evaluate` of its benchmark classes.
    """
    scores = np.asarray(win_rates, dtype=np.float64)
    if scores.shape != benchmark.strong_quality.shape or not np.isfinite(scores).all():
        message = f"expected {len(benchmark.prompts)} finite win rates for {benchmark.name}, found shape {scores.shape}"
        raise InvalidArgumentError(message)
    edges = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, bins + 1)))
    chosen = [scores > edges[-1], *(scores >= edge for edge in edges[-2::-1])]
    if len(edges) == 1:
        chosen.append(np.ones_like(scores, dtype=bool))
    share = np.array([mask.mean() for mask in chosen])
    quality = [np.where(mask, benchmark.strong_quality, benchmark.weak_quality).mean() for mask in chosen]
    return Curve(share, np.array(quality), *_alone(benchmark))


def router_metrics(name: str, win_rates: NDArray[np.floating[Any]], benchmark: Benchmark) -> Metrics:
    """Return the metrics of a router's win rates. Raises InvalidArgumentError; see sweep."""
    return Metrics.of(name, sweep(win_rates, benchmark))


def random_metrics(benchmark: Benchmark, *, seed: int = 0) -> Metrics:
    """Return the metrics of ten random routers' mean curve, and the deviation of their APGR."""
    generator = np.random.default_rng(seed)
    curves = [sweep(generator.random(len(benchmark.prompts)), benchmark) for _ in range(_RANDOM_RUNS)]
    mean = Curve(curves[0].strong_share, np.mean([curve.quality for curve in curves], axis=0), *_alone(benchmark))
    return Metrics.of("random", mean, apgr_deviation=float(np.std([curve.apgr for curve in curves], ddof=1)))


def length_metrics(benchmark: Benchmark) -> Metrics:
    """Return the metrics of routing by the number of words alone: longer prompts go to the strong model."""
    words = np.array([len(prompt.split()) for prompt in benchmark.prompts], dtype=np.float64)
    return router_metrics("prompt length", words, benchmark)


def oracle_metrics(benchmark: Benchmark) -> Metrics:
    """Return the metrics of a router that knows both answers' quality: the most that routing can reach."""
    order = np.argsort(benchmark.weak_quality - benchmark.strong_quality, kind="stable")
    gains = (benchmark.strong_quality - benchmark.weak_quality)[order]
    counts = np.rint(np.linspace(0.0, 1.0, _BINS + 1) * len(order)).astype(int)
    cumulative = np.concatenate([[0.0], np.cumsum(gains)]) / len(order)
    strong, weak = _alone(benchmark)
    return Metrics.of("oracle", Curve(counts / len(order), weak + cumulative[counts], strong, weak))


def _alone(benchmark: Benchmark) -> tuple[float, float]:
    return float(benchmark.strong_quality.mean()), float(benchmark.weak_quality.mean())
