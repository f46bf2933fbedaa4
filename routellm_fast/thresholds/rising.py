"""Means that rise: the isotonic regression, by pooling adjacent violators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Step:
    """Neighbouring levels that have one mean.

    Attributes:
        mass: Sum of their weights.
        level: Their mean level.
        mean: Their mean target; it rises from step to step.
    """

    mass: float
    level: float
    mean: float


def rising_steps(
    levels: NDArray[np.float64], targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[Step, ...]:
    """Return the steps of the rising function of the level that is nearest to the targets, by weighted squares.

    Args:
        levels: (n,) where each target was seen; equal ones are one level.
        targets: (n,) the targets.
        weights: (n,) their weights, above 0.
    """
    distinct, level = np.unique(levels, return_inverse=True)
    level = level.reshape(-1)
    mass = np.bincount(level, weights=weights)
    mean = np.bincount(level, weights=weights * targets) / mass
    # A step is its mass, and the sums of levels and of targets over it.
    steps: list[tuple[float, float, float]] = []
    for at, amount, target in zip(distinct.tolist(), mass.tolist(), mean.tolist(), strict=True):
        step = (amount, amount * at, amount * target)
        while steps and steps[-1][2] / steps[-1][0] >= step[2] / step[0]:
            last = steps.pop()
            step = (last[0] + step[0], last[1] + step[1], last[2] + step[2])
        steps.append(step)
    return tuple(Step(amount, sums / amount, wins / amount) for amount, sums, wins in steps)
