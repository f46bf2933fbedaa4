"""Shifts targets so that all sources agree on how far two models are apart."""

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
    """Return the battles with shifted targets: for each pair of models, every source has the mean over all sources.

    One judge, or one exam, may see two models further apart than another does. The shift removes this difference
    between sources and leaves the differences between the prompts of one source. All targets of one source and pair are
    shifted by the same number and cut to [0, 1]; the number is chosen so that the mean is met after the cut. Means are
    weighted.
    """
    target = np.array([battle.target for battle in battles])
    weight = np.array([battle.weight for battle in battles])
    turned = np.array([battle.model_a > battle.model_b for battle in battles])
    # Turn all battles of a pair the same way round, whichever model was called model_a.
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
