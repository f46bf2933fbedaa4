"""Whether a score knows anything of where the strong model is needed: an exact test, whatever the labels look like.

A router is used by the order in which it puts prompts. What is tested is the sum, over prompts, of the rank of the
score times the gap, which is what the strong model scored better by. It is large where high scores stand at large gaps,
and it is what APGR grows with. If the score knows nothing, any other way of dealing the same gaps out to the same
scores is as likely as the one that was found. So the gaps are dealt out anew, thousands of times, and the p value is
the share of deals, the found one counted, whose sum is at least as large. That holds for few prompts, for ties, and for
any distribution of the gaps.

Prompts of one group are alike, so it is groups that are dealt out: the mean gap of each group goes to a group of about
the same size (from one to less than twice as many prompts: 1, 2 to 3, 4 to 7, ...), since the mean of many prompts
varies less than that of one. A group that has no other of its size stays where it is and says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.split import numbered
from routellm_fast.training.verdict import ranks

# One more, and any level of two decimals or four is a whole number of deals: p values then reach it exactly.
DEALS: Final = 9_999
# Gaps that are held at once.
_CHUNK: Final = 1 << 20
# Sums of the same numbers in another order differ by this much, relative to their size.
_ROUNDING: Final = 1e-9


def p_values(
    scores: Mapping[str, NDArray[np.floating[Any]]],
    gap: NDArray[np.float64],
    groups: Sequence[str],
    *,
    deals: int = DEALS,
    seed: int = 0,
) -> dict[str, float]:
    """Return, for each router, the one-sided p value of a score that knows nothing of the gap.

    Args:
        scores: (n,) finite scores by router; only their order counts.
        gap: (n,) strong minus weak score of each prompt.
        groups: n names of groups.
        deals: How many times the gaps are dealt out anew.
        seed: Seed of the deals, which are the same for all routers.

    Returns:
        By router, in [1 / (deals + 1), 1].
    """
    count, group = numbered(groups)
    sizes = np.bincount(group, minlength=count)
    means = np.bincount(group, gap, count) / sizes
    even = np.ones(len(gap))
    # (groups, routers): sums of centred ranks, so that a group's size alone says nothing.
    weights = np.stack(
        [np.bincount(group, ranks(values.astype(np.float64), even) - 0.5, count) for values in scores.values()], axis=1
    )
    found = means @ weights
    least = found - _ROUNDING * (np.abs(means) @ np.abs(weights))
    classes = [np.flatnonzero(_size_class(sizes) == size) for size in np.unique(_size_class(sizes))]
    generator = np.random.default_rng(seed)
    reached = np.zeros(len(scores), dtype=np.int64)
    chunk = max(1, _CHUNK // count)
    for start in range(0, deals, chunk):
        rows = min(chunk, deals - start)
        sums = np.zeros((rows, len(scores)))
        for members in classes:
            dealt = generator.permuted(np.broadcast_to(means[members], (rows, len(members))), axis=1)
            sums += dealt @ weights[members]
        reached += (sums >= least).sum(axis=0)
    return {name: float(p) for name, p in zip(scores, (1 + reached) / (1 + deals), strict=True)}


def least_p_value(gap: NDArray[np.float64], groups: Sequence[str]) -> float:
    """Return the p value that a perfect score would have: one over the number of different deals of the gaps."""
    count, group = numbered(groups)
    sizes = np.bincount(group, minlength=count)
    means = np.round(np.bincount(group, gap, count) / sizes, 9)
    log = 0.0
    for size in np.unique(_size_class(sizes)):
        members = means[_size_class(sizes) == size]
        repeated = np.unique(members, return_counts=True)[1]
        log += math.lgamma(len(members) + 1) - sum(math.lgamma(times + 1) for times in repeated.tolist())
    return math.exp(-log)


def _size_class(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (groups,) classes of groups of about one size: each reaches to less than twice its least size."""
    return np.asarray(np.frexp(sizes.astype(np.float64))[1], dtype=np.int64)
