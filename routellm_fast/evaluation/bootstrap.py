"""How sure the numbers are: bootstrap over prompts, for many routers at once.

A resample of n prompts is a count for each prompt; where prompts have groups, whole groups are drawn. Prompts are
sorted by win rate once; sums of the counts, and of the counts times what the strong model gains, over that order hold
the whole curve of a resample. Nothing is sorted again, and every router meets the same resamples, so that differences
of routers are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.split import numbered
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.curves import Counts, Draws, FloatArray, draws_of, joined, recovered_at
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
    rankings = {name: Ranking.of(check_scores(values, benchmark)) for name, values in scores.items()}
    parts: dict[str, list[Draws]] = {name: [] for name in rankings}
    for drawn in _drawn_prompts(benchmark, resamples, seed):
        for name, ranking in rankings.items():
            counts, gained = _cumulated(drawn, ranking, benchmark)
            parts[name].append(draws_of(counts, gained, ranking.win_rates, with_cpt=with_cpt))
    return {name: joined(found) for name, found in parts.items()}


def quality_draws(
    scores: Mapping[str, NDArray[np.floating[Any]]],
    benchmark: Benchmark,
    shares: FloatArray,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Return the mean quality at exact strong shares on resamples of the prompts, the same resamples for all.

    Unlike APGR it is defined where the strong model is no better.

    Args:
        scores: (n,) finite win rates by router; any increasing score will do.
        benchmark: The prompts that are routed, with both models' qualities.
        shares: (s,) strong shares in [0, 1]; prompts of one win rate that a share divides go in proportion.
        resamples: Number of resamples, at least 1.
        seed: Seed of the resamples, which are those of `bootstrap`.

    Returns:
        By router, (1 + resamples, s) float64: first the prompts themselves, then the resamples.

    Raises:
        InvalidArgumentError: Scores of a wrong shape, or not finite.
    """
    rankings = {name: Ranking.of(check_scores(values, benchmark)) for name, values in scores.items()}
    parts: dict[str, list[FloatArray]] = {name: [] for name in rankings}
    whole = np.ones((1, len(benchmark.prompts)), dtype=np.int32)
    for drawn in chain((whole,), _drawn_prompts(benchmark, resamples, seed)):
        weak, total = drawn @ benchmark.weak_quality, drawn.sum(axis=1)
        for name, ranking in rankings.items():
            counts, gained = _cumulated(drawn, ranking, benchmark)
            above = recovered_at(np.pad(counts, ((0, 0), (1, 0))), np.pad(gained, ((0, 0), (1, 0))), shares)
            parts[name].append((weak[:, None] + above) / total[:, None])
    return {name: np.concatenate(found) for name, found in parts.items()}


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


def resampled(count: int, resamples: int, seed: int, *, width: int = 0) -> Iterator[NDArray[np.int32]]:
    """Yield (b, count) how often each prompt, or group, is drawn, b rows at a time; the draws do not depend on b.

    Args:
        count: How many there are.
        resamples: Number of resamples.
        seed: Seed of the resamples.
        width: Numbers that the caller holds of each resample, where these are more than `count`.
    """
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // max(count, width))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.int32)


def _drawn_prompts(benchmark: Benchmark, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """Yield (b, n) how often each prompt is drawn: by itself, or with its group where prompts have groups."""
    count = len(benchmark.prompts)
    if not benchmark.groups:
        yield from resampled(count, resamples, seed)
        return
    groups, group = numbered(benchmark.groups)
    for drawn in resampled(groups, resamples, seed, width=count):
        yield drawn[:, group]


def _cumulated(drawn: NDArray[np.int32], ranking: Ranking, benchmark: Benchmark) -> tuple[Counts, FloatArray]:
    """Return (b, levels) prompts of each resample up to each level of the win rate, and what the strong model gains."""
    gains = (benchmark.strong_quality - benchmark.weak_quality)[ranking.order]
    ordered = drawn[:, ranking.order]
    return ordered.cumsum(axis=1, dtype=np.int32)[:, ranking.ends], (ordered * gains).cumsum(axis=1)[:, ranking.ends]
