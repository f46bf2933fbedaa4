"""Battles between a strong and a weak model, for trainers that know no other models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from routellm_fast import data
from routellm_fast.data.battles import Battles
from routellm_fast.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def a_is_strong(battles: Battles, strong_models: frozenset[str]) -> NDArray[np.bool_]:
    """Mark the battles, (n,), whose model_a is the strong one.

    Raises:
        InvalidArgumentError: A battle is not between a strong model and another.
    """
    strong = np.array([name in strong_models for name in battles.models])
    marks: NDArray[np.bool_] = strong[battles.model_a]
    wrong = np.flatnonzero(marks == strong[battles.model_b])
    if len(wrong):
        names = [battles.models[index[wrong[0]]] for index in (battles.model_a, battles.model_b)]
        raise InvalidArgumentError(
            f"battles are between a strong and a weak model, found {names[0]} against {names[1]}"
        )
    return marks


def of_prompts(rows: list[data.Battle], limit: int | None, seed: int) -> list[data.Battle]:
    """Keep the battles of about so many prompts: whole groups, by the hash that also holds groups out."""
    groups = data.joined_groups((row.prompt, row.group) for row in rows)
    if limit is None or len(groups) <= limit:
        return rows
    # Another seed than the held-out set's: else one would be chosen from the other.
    kept = data.held_out(list(groups.values()), limit / len(groups), seed=seed + (1 << 32))
    names = {prompt for prompt, is_kept in zip(groups, kept, strict=True) if is_kept}
    return [row for row in rows if row.prompt in names]
