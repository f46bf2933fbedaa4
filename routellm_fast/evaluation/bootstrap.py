"""How sure the numbers are: bootstrap over prompts, for many routers at once.

A resample of n prompts is a count for each prompt. Prompts are sorted by win rate once; sums of the counts, and of the
counts times what the strong model gains, over that order hold the whole curve of a resample. Nothing is sorted again,
and every router meets the same resamples, so that differences of routers are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.curves import Draws, FloatArray, draws_of, joined
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.levels import Ranking
from routellm_fast.evaluation.metrics import check_scores
from routellm_fast.interval import Interval

_CONFIDENCE: Final = 0.95
# Counts held at once: some 10 MB an array, whatever the number of prompts.
_CHUNK: Final = 1 << 20


def bootstrap(
    scores: Mapping[str, NDArray[np.floating[Any]]],
    benchmark: Benchmark,
    *,
    resamples: int = 2000,
    seed: int = 0,
    with_cpt: bool = True,
) -> dict[str, Draws]:
    """Return each router's metrics on resamples of the prompts, the same resamples for all.

    Thresholds are chosen anew on each resample, as the metrics do on the prompts themselves. Where the strong model is
    not better on a resample, every metric is NaN there.

    Args:
        scores: (n,) finite win rates by router; any increasing score will do.
        benchmark: The prompts that are routed, with both models' qualities.
        resamples: Number of resamples, at least 1.
        seed: Seed of the resamples.
        with_cpt: Whether to compute CPT too; without, only APGR.

    Returns:
        By router and metric, (resamples,) float64.

    Raises:
        InvalidArgumentError: Scores of a wrong shape, or not finite; fewer than one resample.
    """
    if resamples < 1:
        raise InvalidArgumentError(f"at least one resample is needed, found {resamples}")
    gains = benchmark.strong_quality - benchmark.weak_quality
    rankings = {name: Ranking.of(check_scores(values, benchmark)) for name, values in scores.items()}
    parts: dict[str, list[Draws]] = {name: [] for name in rankings}
    for drawn in resampled(len(gains), resamples, seed):
        for name, ranking in rankings.items():
            ordered = drawn[:, ranking.order]
            gained = (ordered * gains[ranking.order]).cumsum(axis=1)[:, ranking.ends]
            counts = ordered.cumsum(axis=1, dtype=np.int32)[:, ranking.ends]
            parts[name].append(draws_of(counts, gained, ranking.win_rates, with_cpt=with_cpt))
    return {name: joined(found) for name, found in parts.items()}


def random_runs(benchmark: Benchmark, *, runs: int = 500, seed: int = 0) -> Draws:
    """Return the metrics of random routing, (runs,) each: all prompts, win rates drawn anew."""
    gains = benchmark.strong_quality - benchmark.weak_quality
    generator = np.random.default_rng(seed)
    counts = np.arange(1, len(gains) + 1, dtype=np.int32)[None, :]
    chunk = max(1, _CHUNK // len(gains))
    found = []
    for start in range(0, runs, chunk):
        rows = min(chunk, runs - start)
        shuffled = generator.permuted(np.broadcast_to(gains, (rows, len(gains))), axis=1)
        win_rates = counts[0].astype(np.float64)
        found.append(draws_of(counts.repeat(rows, axis=0), shuffled.cumsum(axis=1), win_rates))
    return joined(found)


def interval(value: float, draws: FloatArray) -> Interval:
    """Return a value with the middle 95 % of its draws, NaN left out."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return Interval.exactly(value)
    tail = (1.0 - _CONFIDENCE) / 2.0
    low, high = np.quantile(defined, (tail, 1.0 - tail))
    return Interval(value, float(low), float(high))


def resampled(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """Yield (b, count) how often each prompt is drawn, b rows at a time; the draws do not depend on b."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // count)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.int32)
