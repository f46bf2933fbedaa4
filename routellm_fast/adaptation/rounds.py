"""Labelling in rounds: what the routers so far disagree on comes next, until enough is known.

Only the part that may be learned from is chosen like this. The untouched part goes on in its random order, or it would
no longer be a sample of the traffic. For the same reason nothing is to be measured on the chosen labels alone: they are
the doubtful ones, which no router gets right as often as it does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import InvalidArgumentError


class Enough(str, Enum):
    """Why no further round is made."""

    NARROW = "the interval is as narrow as was wanted"
    NO_PROMPTS = "no prompts are left"
    NO_MONEY = "the money is spent"


def why_enough(
    half_width: float | None, wanted: float | None, *, prompts_left: int, left_usd: float | None, label_usd: float
) -> Enough | None:
    """Return why no further round is made; None where one is.

    To look after every round does not spoil the interval, since what is looked at is its width and not what it says (Y.
    S. Chow and H. Robbins, On the asymptotic theory of fixed-width sequential confidence intervals, 1965). To stop as
    soon as a router looks better would.

    Args:
        half_width: Half the width of the interval so far; None where there is none yet.
        wanted: The half-width that is wanted; None where only money and prompts end the rounds.
        prompts_left: Number of prompts that are not labelled.
        left_usd: US dollars that may still be spent; None for any number.
        label_usd: US dollars that the next label may cost.
    """
    if half_width is not None and wanted is not None and half_width <= wanted:
        return Enough.NARROW
    if not prompts_left:
        return Enough.NO_PROMPTS
    if left_usd is not None and left_usd < label_usd:
        return Enough.NO_MONEY
    return None


def disagreement(scores: NDArray[np.float64], *, shares: tuple[float, float] = (0.0, 1.0)) -> NDArray[np.float64]:
    """Return (n,) how likely two of the routers send a prompt to different models, in [0, 1].

    Both routers are drawn at random, and so is the strong share, the same for both; each sends that share of the n
    prompts to the strong model, those that it scores highest. Where two have a prompt at the ranks r and s, from 0 to
    1, they differ at the strong shares between 1 - r and 1 - s. One router never disagrees with itself.

    Args:
        scores: (c, n) finite scores, one row a router: the higher, the more a prompt needs the strong model. Only their
            order counts.
        shares: The least and the largest strong share that matters, in [0, 1].

    Raises:
        InvalidArgumentError: Scores are not (c, n) finite numbers, or shares are no range.
    """
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise InvalidArgumentError(f"scores must be finite, a row a router and a column a prompt, found {scores.shape}")
    low, high = shares
    if not 0.0 <= low < high <= 1.0:
        raise InvalidArgumentError(f"strong shares from low to high lie in [0, 1], found {shares}")
    routers = len(scores)
    if routers < 2:
        return np.zeros(scores.shape[1])
    ranks = np.sort(np.clip([_ranks(row) for row in scores], 1.0 - high, 1.0 - low), axis=0)
    # In rising order the i-th of c ranks is the larger one of i pairs and the smaller one of c - 1 - i.
    times = 2.0 * np.arange(routers) - (routers - 1)
    pairs = routers * (routers - 1) / 2.0
    return np.asarray(times @ ranks / pairs / (high - low))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The prompts to label next.

    Attributes:
        rows: (k,) int64 positions in the pool, in the order of labelling.
        is_doubtful: (k,) whether each was chosen because the routers disagree on it; the others are the next in turn.
    """

    rows: NDArray[np.int64]
    is_doubtful: NDArray[np.bool_]

    __repr__ = brief_repr


def next_batch(
    doubts: NDArray[np.float64], cells: NDArray[np.int64], take: int, *, doubtful_share: float = 0.5
) -> Batch:
    """Choose prompts that the routers disagree on, spread over the strata, among those whose turn it is.

    A stratum gets as many of the doubtful ones as it has of all disagreement (by the divisor method of Sainte-Lague),
    and gives those with the most. So a stratum on which all agree gets none, and one in which a single prompt is odd
    gets one at the most. The prompts in turn keep the labels from being of one kind wherever all disagreement is.
    Wherever labelling ends, both sorts have had their share.

    Args:
        doubts: (n,) disagreement >= 0 on the prompts that may be learned from and have no label, in the order of the
            plan (sampling.Plan).
        cells: (n,) the stratum of each.
        take: How many to choose, >= 0; all where there are fewer.
        doubtful_share: The share that is chosen by disagreement, in [0, 1].

    Raises:
        InvalidArgumentError: The arrays are of different lengths, a doubt is no number of at least 0, or the share is
            none.
    """
    if doubts.shape != cells.shape or doubts.ndim != 1 or not (np.isfinite(doubts) & (doubts >= 0.0)).all():
        raise InvalidArgumentError(
            f"doubts are finite numbers of at least 0, with a stratum for each, found {doubts.shape} and {cells.shape}"
        )
    if not 0.0 <= doubtful_share <= 1.0:
        raise InvalidArgumentError(f"the doubtful share lies in [0, 1], found {doubtful_share}")
    doubtful, in_turn = iter(_most_doubtful(doubts, cells).tolist()), iter(range(len(doubts)))
    chosen: dict[int, bool] = {}
    for place in range(min(take, len(doubts))):
        is_doubtful = int((place + 1) * doubtful_share) > int(place * doubtful_share)
        row = next((row for row in doubtful if row not in chosen), None) if is_doubtful else None
        is_doubtful = row is not None
        if row is None:
            row = next(row for row in in_turn if row not in chosen)
        chosen[row] = is_doubtful
    return Batch(np.array(list(chosen), dtype=np.int64), np.array(list(chosen.values()), dtype=np.bool_))


def _most_doubtful(doubts: NDArray[np.float64], cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows with any doubt, in the order in which they are taken."""
    _, cell = np.unique(cells, return_inverse=True)
    cell = cell.reshape(-1)
    order = np.lexsort((-doubts, cell))
    order = order[doubts[order] > 0.0]
    if not len(order):
        return order
    sorted_cells = cell[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_cells, sorted_cells)
    claims = np.bincount(cell, weights=doubts)[sorted_cells] / (place + 0.5)
    # Of equal claims, the prompt whose turn is sooner.
    return order[np.lexsort((order, -claims))]


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) ranks between 0 and 1; equal scores share the middle of theirs."""
    _, level, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - counts / 2.0
    return np.asarray(middles[level.reshape(-1)] / len(scores))
