"""How sure the numbers are: bootstrap over prompts, for many routers at once.

A resample of n prompts is a count for each prompt. Prompts are sorted by win rate once; sums of the counts, and of the
counts times what the strong model gains, over that order hold the whole curve of a resample. Nothing is sorted again,
and every router meets the same resamples, so that differences of routers are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.metrics import BINS, PAPER_SHARES, check_scores, quantiles_of
from routellm_fast.interval import Interval

METRICS: Final = ("apgr_routellm", "apgr_paper", "cpt20", "cpt50", "cpt80")
_TARGETS: Final = (0.2, 0.5, 0.8)
_CONFIDENCE: Final = 0.95
# Counts held at once: some 10 MB an array, whatever the number of prompts.
_CHUNK: Final = 1 << 20

Counts = NDArray[np.int32]
Draws = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Prompts by rising win rate; prompts of one win rate are one group, which no threshold divides."""

    order: NDArray[np.intp]
    ends: NDArray[np.intp]
    levels: NDArray[np.float64]
    gains: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float64], gains: NDArray[np.float64]) -> _Ranked:
        order = np.argsort(scores, kind="stable")
        ordered = scores[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(order) - 1)
        return cls(order, ends, ordered[ends], gains[order])

    def cumulate(self, counts: Counts) -> tuple[Counts, NDArray[np.float64]]:
        """Return (b, groups) counts and gains of all prompts up to each group."""
        ordered = counts[:, self.order]
        gains = (ordered * self.gains).cumsum(axis=1)
        return ordered.cumsum(axis=1, dtype=np.int32)[:, self.ends], gains[:, self.ends]


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
        benchmark: What is routed.
        resamples: How many.
        seed: Of the resamples.
        with_cpt: Leave this out where only APGR is of interest.

    Returns:
        By router and metric, (resamples,) float64.

    Raises:
        InvalidArgumentError: Scores of a wrong shape, or not finite; fewer than one resample.
    """
    if resamples < 1:
        raise InvalidArgumentError(f"at least one resample is needed, found {resamples}")
    gains = benchmark.strong_quality - benchmark.weak_quality
    ranked = {name: _Ranked.of(check_scores(values, benchmark), gains) for name, values in scores.items()}
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in ranked}
    for counts in resampled(len(gains), resamples, seed):
        for name, router in ranked.items():
            parts[name].append(_metrics(*router.cumulate(counts), router.levels, with_cpt=with_cpt))
    return {name: _columns(np.concatenate(found)) for name, found in parts.items()}


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
        levels = counts[0].astype(np.float64)
        found.append(_metrics(counts.repeat(rows, axis=0), shuffled.cumsum(axis=1), levels, with_cpt=True))
    return _columns(np.concatenate(found))


def interval(value: float, draws: NDArray[np.float64]) -> Interval:
    """Return a value with the middle 95 % of its draws, NaN left out."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return Interval.exactly(value)
    tail = (1.0 - _CONFIDENCE) / 2.0
    low, high = np.quantile(defined, (tail, 1.0 - tail))
    return Interval(value, float(low), float(high))


def resampled(count: int, resamples: int, seed: int) -> Iterator[Counts]:
    """Yield (b, count) how often each prompt is drawn, b rows at a time; the draws do not depend on b."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // count)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.int32)


def _columns(found: NDArray[np.float64]) -> Draws:
    return dict(zip(METRICS[: found.shape[1]], found.T, strict=False))


def _metrics(
    counts: Counts, gains: NDArray[np.float64], levels: NDArray[np.float64], *, with_cpt: bool
) -> NDArray[np.float64]:
    """Return (b, metrics) of b curves, given by counts and gains cumulated over rising levels of the win rate."""
    gap = gains[:, -1:]
    defined = gap[:, 0] > 0.0
    # Divided by the gap, the gain of a share is its PGR. Where there is no gap the rows are marked at the end.
    recovered = gains / np.where(defined[:, None], gap, 1.0)
    counts, recovered = np.pad(counts, ((0, 0), (1, 0))), np.pad(recovered, ((0, 0), (1, 0)))
    share, pgr = _sweep(counts, recovered, levels)
    columns = [
        ((share[:, 1:] - share[:, :-1]) * (pgr[:, 1:] + pgr[:, :-1])).sum(axis=1) / 2.0,
        _pgr_at(counts, recovered, np.array(PAPER_SHARES)).mean(axis=1),
    ]
    if with_cpt:
        columns.extend(np.array([_cpt(target, x, y) for x, y in zip(share, pgr, strict=True)]) for target in _TARGETS)
    found = np.stack(columns, axis=1)
    found[~defined] = np.nan
    return found


def _sweep(
    counts: Counts, recovered: NDArray[np.float64], levels: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (b, 11) strong shares, rising, and PGR at the thresholds of `metrics.sweep`."""
    total = counts[0, -1]
    position = quantiles_of(BINS)[:-1] * (total - 1)
    low = np.floor(position).astype(np.intp)
    group, after = (_group_at(counts, index) for index in (low, np.minimum(low + 1, total - 1)))
    # Interpolated as numpy.quantile does: whether the lower group reaches the edge can hang on the last bit.
    part, start, end = position - low, levels[group], levels[after]
    edge = np.where(part < 0.5, start + (end - start) * part, end - (end - start) * (1.0 - part))
    below = np.where(start >= edge, group, after)
    below = np.concatenate([below, np.full((len(counts), 1), counts.shape[1] - 1)], axis=1)[:, ::-1]
    left_out = np.take_along_axis(counts, below, axis=1)
    return 1.0 - left_out / total, recovered[:, -1:] - np.take_along_axis(recovered, below, axis=1)


def _pgr_at(counts: Counts, recovered: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (b, shares) PGR at exact strong shares; a group that a share divides goes in proportion."""
    total = counts[0, -1]
    left_out = total * (1.0 - shares)
    group = _group_at(counts, left_out)
    before, upto = (np.take_along_axis(counts, group + step, axis=1) for step in (0, 1))
    base, top = (np.take_along_axis(recovered, group + step, axis=1) for step in (0, 1))
    part = (left_out - before) / (upto - before)
    return np.asarray(recovered[:, -1:] - (base + part * (top - base)))


def _group_at(counts: Counts, positions: NDArray[Any]) -> NDArray[np.intp]:
    """Return (b, positions) the group of the prompt at each position, from 0; counts hold a leading zero column."""
    rows, columns = counts.shape
    # One search for all rows: each is moved beyond the end of the one before.
    offset = (counts[0, -1] + 1) * np.arange(rows)[:, None]
    found = np.searchsorted((counts + offset).ravel(), (positions + offset).ravel(), side="right")
    return np.asarray(found.reshape(rows, -1) - columns * np.arange(rows)[:, None] - 1, dtype=np.intp)


def _cpt(target: float, share: NDArray[np.float64], pgr: NDArray[np.float64]) -> float:
    kept = np.append(True, share[1:] > share[:-1])
    return float(np.interp(target, pgr[kept], share[kept]))
