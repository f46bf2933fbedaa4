"""Which of a user's prompts are labelled, and in which order.

The prompts are divided once, by a hash of the group (by default of what each asks; see near_duplicates) and the seed:

* The untouched part is a random sample of the different requests, each as likely as any other, whatever its kind and
  however often it was asked. It is labelled in random order, so that any number of its labels is such a sample too:
  what holds for it holds for the traffic, within the interval that its size gives. A mean over its labels is about
  different requests; weighted by `requests`, about all of them.
* The rest may be learned from. It is labelled in an order that is spread over kinds, lengths and scripts: at every
  point each stratum has as many labels as a random draw of requests would give it in expectation, give or take one.
  Often asked prompts come early by themselves, so these labels are not to be weighted by `requests` again.

Both orders are mixed so that whenever labelling ends, the labels are divided as `sizing.Division` says. Nothing depends
on how many labels are wanted: more labels are the same ones and further ones. Nothing depends on the order of the
file, and prompts that are added to it shift others by no more than the places that they take themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.near_duplicates import collapsed, waiting_times
from routellm_fast.adaptation.sides import groups_of, untouched_rows
from routellm_fast.adaptation.sizing import Division
from routellm_fast.adaptation.strata import Strata, strata_of
from routellm_fast.arrays import FloatArray, brief_repr
from routellm_fast.data.split import marks
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.thresholds.traffic import Traffic

# Moments at which the expected number of draws is computed; between them it is interpolated.
_MOMENTS: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The order in which the prompts of a traffic are to be labelled.

    Attributes:
        order: (k,) int64 indices in traffic.prompts: one prompt of each request, in the order of labelling.
        is_untouched: (k,) whether each of them belongs to the untouched part, whose labels only prove.
        requests: (k,) int64 how often each was asked, near-duplicates included.
        strata: The stratum of each of them.
        groups: (m,) of every prompt of the traffic the name of its group: near-duplicates have the same one. Prompts of
            one group are all untouched, or none is.
        seed: The seed that the plan was made with.
    """

    order: NDArray[np.int64]
    is_untouched: NDArray[np.bool_]
    requests: NDArray[np.int64]
    strata: Strata
    groups: tuple[str, ...]
    seed: int

    __repr__ = brief_repr

    def __len__(self) -> int:
        """Number of prompts that can be labelled: near-duplicates count once."""
        return len(self.order)

    def left(self, labelled: Collection[str], *, untouched: bool) -> NDArray[np.int64]:
        """Return the places in `order` of the prompts of one part that still have no label, in their order.

        Args:
            labelled: Names of the groups that have one.
            untouched: Whether the untouched part is asked for, or the one to learn from.
        """
        places = np.flatnonzero(self.is_untouched == untouched)
        is_open = [self.groups[row] not in labelled for row in self.order[places].tolist()]
        return places[np.array(is_open, dtype=np.bool_)]


def plan_labels(
    traffic: Traffic,
    vectors: FloatArray,
    *,
    groups: Sequence[str] | None = None,
    division: Division | None = None,
    seed: int = 0,
) -> Plan:
    """Plan which prompts of a traffic are labelled.

    Args:
        traffic: m distinct prompts, and how often each was asked.
        vectors: (m, dim) float32 token dimensions of the prompts, as `StaticEmbedder.tokens_only().embed` gives them.
        groups: (m,) names of groups: prompts of one group are all untouched, or none is. Those of near-duplicates are
            joined. None: near-duplicates alone are groups.
        division: How labels are divided; None for Division().
        seed: Another seed chooses other prompts; in [0, 2^63). A run that goes on from an earlier one needs its seed
            and its division, or prompts change sides.

    Raises:
        InvalidArgumentError: The vectors do not fit the prompts, or the seed is out of range.
        InvalidEmbeddingError: A vector is not finite.
    """
    division = division or Division()
    if vectors.ndim != 2 or len(vectors) != len(traffic.prompts):
        raise InvalidArgumentError(
            f"{len(traffic.prompts):,} prompts need an array of as many vectors, found one of shape {vectors.shape}"
        )
    if not 0 <= seed < 1 << 63:
        raise InvalidArgumentError(f"the seed lies between 0 and 2^63 - 1, found {seed}")
    requests = collapsed(traffic.prompts, traffic.counts, seed=seed)
    texts = [traffic.prompts[row] for row in requests.representative]
    strata = strata_of(requests.names, texts, vectors, requests.representative, seed=seed)
    if groups is None:
        names = tuple(requests.names[request] for request in requests.of_prompt)
    else:
        names = groups_of(traffic.prompts, groups)
    apart = untouched_rows(
        texts, [names[row] for row in requests.representative], share=division.untouched_share, seed=seed
    )
    untouched, rest = np.flatnonzero(apart), np.flatnonzero(~apart)
    untouched = untouched[
        np.argsort(marks([requests.names[i] for i in untouched.tolist()], seed=seed, use="proof"), kind="stable")
    ]
    rest = rest[_spread(requests.names, requests.counts, strata, rest, seed=seed)]
    order, is_untouched = _mixed(untouched, rest, division)
    return Plan(
        requests.representative[order],
        is_untouched,
        requests.counts[order],
        strata.select(order),
        names,
        seed,
    )


def _spread(
    names: tuple[str, ...], counts: NDArray[np.int64], strata: Strata, members: NDArray[np.int64], *, seed: int
) -> NDArray[np.int64]:
    """Return the positions in `members` in an order every start of which is spread over the strata.

    Requests are drawn as by clocks that ring at random, each as often as it was asked: who rings first comes first. In
    each stratum the draws are then moved to the moments at which so many are expected. So no stratum is ahead of its
    share or behind it by luck, and a request that is asked more often than all others takes one place, not all.
    """
    if not len(members):
        return members
    times = waiting_times([names[i] for i in members.tolist()], counts[members], seed=seed, use="training")
    cells = strata.cell[members]
    order = np.lexsort((times, cells))
    distinct, starts = np.unique(cells[order], return_index=True)
    # Where in its first step each stratum begins: else all small ones would come at once, or none for long.
    offsets = (marks([str(cell) for cell in distinct], seed=seed, use="offset") / 2.0**64).clip(1e-9)
    due = np.empty(len(members))
    for rows, offset in zip(np.split(order, starts[1:]), offsets, strict=True):
        due[rows] = expected_moments(counts[members[rows]], float(offset))
    return np.lexsort((times, due))


def expected_moments(counts: NDArray[np.int64], offset: float) -> NDArray[np.float64]:
    """Return (k,) rising moments t, for j from 0, at which j + offset of k clocks have rung in expectation.

    By the moment t a clock of rate c has rung with the probability 1 - exp(-c t).

    Args:
        counts: (k,) the rates, >= 1.
        offset: Above 0 and at most 1.
    """
    wanted = np.arange(len(counts)) + min(offset, 1.0 - 1e-9)
    rates, clocks = np.unique(counts, return_counts=True)
    if len(rates) == 1:
        return np.asarray(-np.log1p(-wanted / len(counts)) / rates[0])
    # Between what it would take if no clock fell silent once it has rung, and if all were as slow as the slowest.
    first, last = wanted[0] / counts.sum(), -np.log1p(-wanted[-1] / len(counts)) / rates[0]
    moments = np.geomspace(first, last, _MOMENTS)
    rung = -np.expm1(-moments[:, None] * rates) @ clocks
    return np.asarray(np.interp(wanted, rung, moments))


def _mixed(
    untouched: NDArray[np.int64], rest: NDArray[np.int64], division: Division
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return both orders as one, divided at every point as it should be, and which of it is untouched."""
    labels = np.arange(len(untouched) + len(rest) + 1)
    # Where one part has no more prompts, the other goes on.
    of_rest = np.minimum(labels - np.minimum(division.untouched(labels), len(untouched)), len(rest))
    is_untouched = np.diff(labels - of_rest) == 1
    order = np.empty(len(is_untouched), dtype=np.int64)
    order[is_untouched], order[~is_untouched] = untouched, rest
    return order, is_untouched
