"""The Bradley-Terry refit as a graph: from a table of wins between tiers to the strong tier's win rate.

The core takes Newton steps, each with its own matrix, until nothing moves. A graph has a fixed number of nodes, and on
a GPU each costs a launch: here an inverse serves a few steps before it is made again. The first step with an inverse is
shortened by a formula where the core searches: the loss is self-concordant in the sense of Sun and Tran-Dinh (2019),
for which log(1 + b) / b of Newton's step, b the most that it changes the difference of two ratings, always lowers it. A
query whose last step was not yet small has no win rate but NaN: a fit that did not arrive is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from .graph import Graph

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

# Natural prompts come within 1e-8 in the first five steps, queries that are unlike any battle in all of them.
INVERSES: Final = 2
STEPS_EACH: Final = 4
# Steps shrink to less than half of the one before: last ones below these leave less than 1e-5. The pair's ratings are
# determined well; in float32 rounding moves those of rarely met tiers by more.
_LAST_PAIR_STEP: Final = 1e-5
_LAST_STEP: Final = 1e-2
_START_STEPS: Final = 200
_SHORTEST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Refit:
    """What the refit of a query starts from.

    Attributes:
        start: (n,) float64 natural ratings at equal weights, of the tiers that can be compared and last one that
            stands still.
        strong: Where the strong model's tier is among them.
        weak: Where the weak model's is.
    """

    start: NDArray[np.float64]
    strong: int
    weak: int


def starting_ratings(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n,) natural ratings that maximise the likelihood of an (n, n) table of wins; the last is 0."""
    ratings = np.zeros(len(wins))
    wins = wins / wins.sum()
    meetings = wins + wins.T
    for _ in range(_START_STEPS):
        likely = 1.0 / (1.0 + np.exp(ratings[None, :] - ratings[:, None]))
        gradient = (meetings * likely).sum(axis=1) - wins.sum(axis=1)
        curvature = meetings * likely * (1.0 - likely)
        hessian = np.diag(curvature.sum(axis=1)) - curvature
        step = np.zeros(len(wins))
        step[:-1] = np.linalg.solve(hessian[:-1, :-1], -gradient[:-1])
        spread = max(float(np.ptp(step)), _SHORTEST)
        ratings = ratings + step * (np.log1p(spread) / spread)
        if spread < 1e-13:
            break
    return ratings


def add_refit(graph: Graph, wins: str, refit: Refit, dtype: DTypeLike) -> str:
    """Add the refit.

    Args:
        graph: To which it is added.
        wins: (batch, n, n) of dtype, element (i, j) the weight of what i won against j; the scale does not matter.
        refit: Start and pair.
        dtype: float64, or float32 for run times that have no other.

    Returns:
        (batch, 1) win rates of dtype.
    """
    count = len(refit.start)
    free = count - 1
    one = graph.constant(1.0, dtype)
    identity = graph.constant(np.eye(free), dtype)
    total = graph.reduce("ReduceSum", graph.reduce("ReduceSum", wins, 2), 1)
    wins = graph.add("Div", wins, total)
    won = graph.reduce("ReduceSum", wins, 2)
    meetings = graph.add("Add", wins, graph.add("Transpose", wins, perm=[0, 2, 1]))
    # The batch's own zeros give the start its batch dimension.
    ratings = graph.add("Add", graph.add("Mul", won, graph.constant(0.0, dtype)), _column(graph, refit.start, dtype))
    step = ""
    for _ in range(INVERSES):
        inverse = ""
        for _ in range(STEPS_EACH):
            likely = graph.add("Sigmoid", graph.add("Sub", ratings, graph.add("Transpose", ratings, perm=[0, 2, 1])))
            expected = graph.add("Mul", meetings, likely)
            descent = graph.slice(graph.add("Sub", won, graph.reduce("ReduceSum", expected, 2)), 1, 0, free)
            is_first = not inverse
            if is_first:
                curvature = graph.add("Mul", expected, graph.add("Sub", one, likely))
                diagonal = graph.slice(graph.reduce("ReduceSum", curvature, 2), 1, 0, free)
                rest = graph.slice(graph.slice(curvature, 1, 0, free), 2, 0, free)
                inverse = _add_inverse(graph, graph.add("Sub", graph.add("Mul", diagonal, identity), rest), free, dtype)
            step = graph.add("MatMul", inverse, descent)
            # The last rating stands still: its step of 0 is one of those that are compared.
            step = graph.add("Pad", step, graph.constant([0, 0, 0, 0, 1, 0], np.int64))
            if is_first:
                spread = graph.add("Max", _add_spread(graph, step), graph.constant(_SHORTEST, dtype))
                share = graph.add("Div", graph.add("Log", graph.add("Add", one, spread)), spread)
                step = graph.add("Mul", step, share)
            ratings = graph.add("Add", ratings, step)
    difference, moved = (
        graph.add("Sub", graph.column(value, 1, refit.strong), graph.column(value, 1, refit.weak))
        for value in (ratings, step)
    )
    has_pair = graph.add("Less", graph.add("Abs", moved), graph.constant(_LAST_PAIR_STEP, dtype))
    has_all = graph.add("Less", _add_spread(graph, step), graph.constant(_LAST_STEP, dtype))
    rate = graph.add(
        "Where", graph.add("And", has_pair, has_all), graph.add("Sigmoid", difference), graph.constant(np.nan, dtype)
    )
    return graph.add("Squeeze", rate, graph.constant([2], np.int64))


def _add_spread(graph: Graph, step: str) -> str:
    """Add the most that a step changes the difference of two ratings."""
    down = graph.reduce("ReduceMax", graph.add("Neg", step), 1)
    return graph.add("Add", graph.reduce("ReduceMax", step, 1), down)


def _column(graph: Graph, values: NDArray[np.float64], dtype: DTypeLike) -> str:
    return graph.constant(values.reshape(1, -1, 1), dtype)


def _add_inverse(graph: Graph, matrix: str, count: int, dtype: DTypeLike) -> str:
    """Add inverses of (batch, count, count) positive definite matrices: Gauss-Jordan, which needs no pivots there."""
    zeros = graph.add("Mul", matrix, graph.constant(0.0, dtype))
    both = graph.add("Concat", matrix, graph.add("Add", zeros, graph.constant(np.eye(count), dtype)), axis=2)
    for pivot in range(count):
        row = graph.column(both, 1, pivot)
        row = graph.add("Div", row, graph.column(row, 2, 0))
        unit = np.zeros((count, 1))
        unit[pivot] = 1.0
        factors = graph.add("Sub", graph.column(both, 2, 0), graph.constant(unit, dtype))
        both = graph.add("Sub", both, graph.add("Mul", factors, row))
        both = graph.slice(both, 2, 1, 2 * count - pivot)  # the column is done: it holds the unit vector
    return both
