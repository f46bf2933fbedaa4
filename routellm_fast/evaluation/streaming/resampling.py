"""How sure the figures of a log are: metrics on resamples of its prompts, drawn from the sums of a sketch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.evaluation.curves import CHANCE, CPT_TARGETS, Draws, FloatArray, draws_of, joined
from routellm_fast.evaluation.streaming.sketch import QualitySketch
from routellm_fast.interval import Interval

RESAMPLING_CELLS: Final = 2048
# Some 2 MB an array.
_AT_ONCE: Final = 1 << 18
_NORMAL_95: Final = 1.959964


def sketch_draws(
    sketch: QualitySketch, resamples: int, *, seed: int, cells: int = RESAMPLING_CELLS, is_divisible: bool = False
) -> Draws:
    """Return the metrics of bootstrap resamples of a log's prompts; NaN where the strong model is not better.

    Args:
        sketch: The sketch of the router.
        resamples: Number of resamples.
        seed: Seed of the random generator.
        cells: About how many groups of neighbouring win rates are told apart.
        is_divisible: See Levels.
    """
    win_rates, sums = sketch.cells(cells)
    drawn = resampled_cells(sums, resamples, seed=seed)
    return joined([draws_of(counts, gains, win_rates, is_divisible=is_divisible) for counts, gains in drawn])


def resampled_cells(sums: FloatArray, resamples: int, *, seed: int) -> Iterator[tuple[NDArray[np.int64], FloatArray]]:
    """Yield bootstrap resamples of the prompts, some at a time, as far as sums tell.

    Weights drawn for a cell would treat its prompts as one. Instead a resample draws how many prompts come from each
    cell, multinomially, and then the sums of their qualities, normally with the cell's own means and covariance: those
    of a true resample, from which it differs in the third moment within a cell only.

    Args:
        sums: (cells, 6) as QualitySketch.cells returns them.
        resamples: Number of resamples.
        seed: Seed of the random generator.

    Yields:
        (b, cells) prompts and (b, cells) gains of the strong model, both cumulated over rising cells.
    """
    sums = sums[::-1]  # drawn from the highest win rate down
    counts = sums[:, 0]
    rows = int(counts.sum())
    means = sums[:, 1:3] / counts[:, None]
    strong_variance = np.maximum(sums[:, 3] / counts - means[:, 0] ** 2, 0.0)
    weak_variance = np.maximum(sums[:, 4] / counts - means[:, 1] ** 2, 0.0)
    covariance = sums[:, 5] / counts - means[:, 0] * means[:, 1]
    # Cholesky factor of each cell's 2 x 2 covariance.
    first = np.sqrt(strong_variance)
    second = np.divide(covariance, first, out=np.zeros_like(first), where=first > 0.0)
    third = np.sqrt(np.maximum(weak_variance - second**2, 0.0))
    generator = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // len(sums))
    for start in range(0, resamples, at_once):
        drawn = generator.multinomial(rows, counts / rows, size=min(at_once, resamples - start))
        spread = np.sqrt(drawn)
        normal = generator.standard_normal((2, *drawn.shape))
        strong = drawn * means[:, 0] + spread * first * normal[0]
        weak = drawn * means[:, 1] + spread * (second * normal[0] + third * normal[1])
        yield drawn[:, ::-1].cumsum(axis=1), (strong - weak)[:, ::-1].cumsum(axis=1)


def random_spread(sketch: QualitySketch) -> dict[str, Interval]:
    """Return the metrics of random routing, whose spread over runs is known without a run.

    A share c chosen at random out of n prompts has a mean gain of variance v c (1 - c) / n, v being that of the gains;
    the area under it has v / 12 n.
    """
    gap = sketch.strong_quality - sketch.weak_quality
    unit = _NORMAL_95 * sketch.gain_deviation / (gap * math.sqrt(sketch.rows))

    def around(metric: str, half: float) -> Interval:
        return Interval(CHANCE[metric], CHANCE[metric] - half, CHANCE[metric] + half)

    found = {name: around(name, unit / math.sqrt(12.0)) for name in CHANCE if name not in CPT_TARGETS}
    for name, target in CPT_TARGETS.items():
        half = unit * math.sqrt(target * (1.0 - target))
        found[name] = Interval(target, max(target - half, 0.0), min(target + half, 1.0))
    return found
