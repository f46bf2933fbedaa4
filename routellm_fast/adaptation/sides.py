"""Which labels prove and which are learned from, once and for all later runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.near_duplicates import request_of
from routellm_fast.data.split import held_out, joined_groups


def groups_of(prompts: Sequence[str], groups: Sequence[str]) -> tuple[str, ...]:
    """Return the groups of prompts, those of near-duplicates joined."""
    rows = [*zip(prompts, groups, strict=True), *((prompt, request_of(prompt)) for prompt in prompts)]
    joined = joined_groups(rows)
    return tuple(joined[prompt] for prompt in prompts)


def untouched_rows(
    prompts: Sequence[str],
    groups: Sequence[str],
    *,
    share: float,
    seed: int,
    known: Mapping[str, bool] | None = None,
) -> NDArray[np.bool_]:
    """Return (n,) whether each label stays untouched.

    A hash of the group decides, so labels that are added move no others. What an earlier run learned from is never
    untouched later: where groups have joined since, all of them are learned from.

    Args:
        prompts: n prompts.
        groups: n names of groups.
        share: Expected share of groups that stay untouched, in [0, 1).
        seed: The same for all runs.
        known: By prompt, whether an earlier run left it untouched.
    """
    # A use of its own: `held_out` decides on the same groups when a router is trained on the rest.
    by_hash = held_out(groups, share, seed=seed, use="untouched")
    decided: dict[str, bool] = {}
    for prompt, group in zip(prompts, groups, strict=True):
        if known and prompt in known:
            decided[group] = decided.get(group, True) and known[prompt]
    rows = zip(groups, by_hash.tolist(), strict=True)
    return np.array([decided.get(group, is_out) for group, is_out in rows], dtype=np.bool_)
