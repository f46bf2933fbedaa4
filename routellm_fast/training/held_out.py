"""Chooses the battles that a trainer holds out, and measures how well they are predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.data.split import held_out
from routellm_fast.errors import InvalidArgumentError


def held_out_battles(battles: Battles, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Mark the battles, (n,), of about this share of groups. Raises InvalidArgumentError where a side has none."""
    out: NDArray[np.bool_] = held_out(battles.groups, share, seed=seed)[battles.prompt]
    if out.all() or not out.any():
        raise InvalidArgumentError(
            f"of {len(battles)} battles on {len(set(battles.groups))} prompt groups, {int(out.sum())} were held out: "
            "both sides need some. Give more data, or another held_out_share or seed."
        )
    return out


def loss_and_accuracy(
    logits: FloatArray, target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Weighted log loss in nats, and share of battles with a winner that is predicted; 0 where none has one."""
    wide = logits.astype(np.float64)
    losses = np.logaddexp(0.0, wide) - target * wide
    decided = target != 0.5
    right = (wide > 0) == (target > 0.5)
    accuracy = np.average(right[decided], weights=weight[decided]) if decided.any() else 0.0
    return round(float(np.average(losses, weights=weight)), 6), round(float(accuracy), 6)


def results_by_source(battles: Battles, out: NDArray[np.bool_], logits: FloatArray) -> dict[str, dict[str, float]]:
    """Return count, loss and accuracy of the held-out battles of each source; `logits` are those of all battles."""
    results = {}
    for index, source in enumerate(battles.sources):
        members = out & (battles.source == index)
        if members.any():
            target, weight = (column[members].astype(np.float64) for column in (battles.target, battles.weight))
            loss, accuracy = loss_and_accuracy(logits[members], target, weight)
            results[source] = {"battles": int(members.sum()), "loss": loss, "accuracy": accuracy}
    return results


def split_counts(battles: Battles, out: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what metrics say of the data: battles on both sides, prompts, their groups and models."""
    return {
        "battles": {"train": int((~out).sum()), "held_out": int(out.sum())},
        "prompts": len(battles.prompts),
        "prompt_groups": len(set(battles.groups)),
        "models": len(battles.models),
    }
