"""Targets that agree between sources on how far two models are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.battles import Battle

# Halvings of an interval of length two: more than float64 tells apart.
_HALVINGS: Final = 60


def centred(battles: Sequence[Battle]) -> list[Battle]:
    """Shift targets so that every source has the same mean for a pair of models: that over all sources.

    Sources differ in level: one judge, or one exam, sees a pair further apart than another. What is left after this is
    which prompts of a source favour which model. Each source and pair is shifted by one number, targets staying within
    [0, 1]; the number is such that the mean is met after that. Means are weighted.
    """
    target = np.array([battle.target for battle in battles])
    weight = np.array([battle.weight for battle in battles])
    turned = np.array([battle.model_a > battle.model_b for battle in battles])
    # All battles of a pair the same way round.
    target = np.where(turned, 1.0 - target, target)
    by_pair: dict[tuple[str, str], list[int]] = {}
    for index, battle in enumerate(battles):
        low, high = sorted((battle.model_a, battle.model_b))
        by_pair.setdefault((low, high), []).append(index)
    for members in by_pair.values():
        mean = float(np.average(target[members], weights=weight[members]))
        by_source: dict[str, list[int]] = {}
        for index in members:
            by_source.setdefault(battles[index].source, []).append(index)
        if len(by_source) > 1:
            for rows in by_source.values():
                target[rows] = _shifted(target[rows], weight[rows], mean)
    target = np.where(turned, 1.0 - target, target)
    return [replace(battle, target=float(value)) for battle, value in zip(battles, target, strict=True)]


def _shifted(target: NDArray[np.float64], weight: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Return clip(target + s, 0, 1) whose weighted mean is `mean`: it rises with s, so halving finds s."""
    low, high = -1.0, 1.0
    for _ in range(_HALVINGS):
        shift = (low + high) / 2.0
        if np.average(np.clip(target + shift, 0.0, 1.0), weights=weight) < mean:
            low = shift
        else:
            high = shift
    shifted: NDArray[np.float64] = np.clip(target + (low + high) / 2.0, 0.0, 1.0)
    return shifted
