"""RouteLLM's metrics of a router on a benchmark, restated in numpy.

c is the share of prompts that go to the strong model. PGR, the performance gap recovered, is
(quality - weak) / (strong - weak), and CPT(x) the least c that reaches PGR x. APGR, the average of PGR over c, exists
twice:

* `apgr_routellm`, RouteLLM's code: the area under the curve through the ten quantiles of the win rates, by trapezoids.
* `apgr_paper`, its paper: the mean of PGR at ten values of c. The paper does not say which; here the middles of ten
  equal parts, 5 %, 15 % to 95 %, at which random routing has the 0.5 that its tables give it.

The numbers are those of RouteLLM's `evals/evaluate.py` where that gives any, its quirks included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.datasets import Benchmark

BINS: Final = 10
PAPER_SHARES: Final = tuple((2 * part + 1) / 20 for part in range(10))
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

        Raises:
            DataError: Both models are equally good: there is no gap to recover.
        """
        if self.strong_quality == self.weak_quality:
            raise DataError(f"both models score {self.strong_quality:g} on average: APGR divides by their gap")
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

    strong_share: NDArray[np.float64]
    quality: NDArray[np.float64]
    threshold: NDArray[np.float64]
    strong_quality: float
    weak_quality: float


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


def sweep(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark, *, bins: int = BINS) -> Curve:
    """Route a benchmark at every quantile of its own win rates.

    Thresholds are the bins + 1 quantile edges; a prompt goes to the strong model at or above a threshold, and above
    it at the last one, so that the curve ends where no prompt does.

    Where many win rates are equal, edges coincide and pandas.qcut, thus RouteLLM, raises; here points that coincide
    count once. A constant win rate gives the two ends of the curve, hence an APGR of 0.5.

    Args:
        win_rates: (n,) finite, one a prompt of the benchmark; any increasing score will do.
        benchmark: What is routed.
        bins: How many bins.

    Raises:
        InvalidArgumentError: The shape is another, or a win rate is not finite.

    Source:
        RouteLLM's evals/benchmarks.py, `evaluate` of its benchmark classes.
    """
    scores = check_scores(win_rates, benchmark)
    edges = np.quantile(scores, quantiles_of(bins))
    chosen = [scores > edges[-1], *(scores >= edge for edge in edges[-2::-1])]
    share = np.array([mask.mean() for mask in chosen])
    quality = [np.where(mask, benchmark.strong_quality, benchmark.weak_quality).mean() for mask in chosen]
    share, kept = np.unique(share, return_index=True)
    return Curve(share, np.array(quality)[kept], *_alone(benchmark))


def quantiles_of(bins: int) -> NDArray[np.float64]:
    """Return the bins + 1 quantiles of pandas.qcut, to the last bit.

    Where a quantile falls on a prompt, that bit says whether the prompt is above it. pandas rounds up what falls short
    of a whole number of bins, and goes by way of percent.
    """
    quantiles = np.linspace(0.0, 1.0, bins + 1)
    inexact = bins * quantiles != np.arange(bins + 1)
    return 100.0 * np.where(inexact, np.nextafter(quantiles, 1.0), quantiles) / 100.0


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


def fine_curve(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark, *, points: int = 100) -> FineCurve:
    """Route a benchmark at about equally spaced strong shares, for plots and for reading off thresholds.

    Prompts of one win rate cannot be divided, so that ties make steps. Raises InvalidArgumentError; see sweep.
    """
    scores = check_scores(win_rates, benchmark)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    wanted = np.rint(np.linspace(0.0, 1.0, min(points, len(order)) + 1) * len(order)).astype(np.intp)
    # Each wanted count is moved to the end of its group of equal win rates.
    counts = np.unique(np.append(0, np.searchsorted(-ordered, -ordered[wanted[1:] - 1], side="right")))
    gains = (benchmark.strong_quality - benchmark.weak_quality)[order]
    cumulated = np.append(0.0, gains.cumsum()) / len(order)
    threshold = np.append(np.nextafter(ordered[0], np.inf), ordered[counts[1:] - 1])
    strong, weak = _alone(benchmark)
    return FineCurve(counts / len(order), weak + cumulated[counts], threshold, strong, weak)


def apgr_paper(win_rates: NDArray[np.floating[Any]], benchmark: Benchmark) -> float:
    """Return the mean of PGR at PAPER_SHARES; prompts of one win rate that a share divides go in proportion.

    Raises:
        DataError: Both models are equally good.
        InvalidArgumentError: See sweep.
    """
    curve = fine_curve(win_rates, benchmark, points=len(benchmark.prompts))
    if curve.strong_quality == curve.weak_quality:
        raise DataError(
            f"{benchmark.name}: both models score {curve.strong_quality:g} on average: APGR divides by their gap"
        )
    quality = np.interp(PAPER_SHARES, curve.strong_share, curve.quality)
    return float((quality.mean() - curve.weak_quality) / (curve.strong_quality - curve.weak_quality))


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
    return router_metrics("prompt length", word_counts(benchmark), benchmark)


def word_counts(benchmark: Benchmark) -> NDArray[np.float64]:
    """Return (n,) words of each prompt, the score of the baseline that routes by length."""
    return np.array([len(prompt.split()) for prompt in benchmark.prompts], dtype=np.float64)


def oracle_ranks(benchmark: Benchmark) -> NDArray[np.float64]:
    """Return (n,) scores, all different, that rise with what the strong model gains: the order of the oracle."""
    order = np.argsort(benchmark.strong_quality - benchmark.weak_quality, kind="stable")
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return ranks


def oracle_metrics(benchmark: Benchmark) -> Metrics:
    """Return the metrics of a router that knows both answers' quality: the most that routing can reach."""
    order = np.argsort(benchmark.weak_quality - benchmark.strong_quality, kind="stable")
    gains = (benchmark.strong_quality - benchmark.weak_quality)[order]
    counts = np.rint(np.linspace(0.0, 1.0, BINS + 1) * len(order)).astype(int)
    cumulative = np.concatenate([[0.0], np.cumsum(gains)]) / len(order)
    strong, weak = _alone(benchmark)
    return Metrics.of("oracle", Curve(counts / len(order), weak + cumulative[counts], strong, weak))


def _alone(benchmark: Benchmark) -> tuple[float, float]:
    return float(benchmark.strong_quality.mean()), float(benchmark.weak_quality.mean())
