"""sw_ranking's refit, collapsed, in numpy: what the numpy peer solves once its similarities are weighted.

RouteLLM fits a logistic regression on two rows a battle. Rows of one (tier of a, tier of b, winner) are equal, so their
weights can be summed first; what is left is Bradley-Terry between at most ten tiers, which Newton's method solves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.figures import sigmoid

_OUTCOMES: Final = ("model_a", "model_b", "tie")


class Cells:
    """Battles grouped by tier of a, tier of b and winner.

    Attributes:
        order: (battles,) indices that sort the battles by cell.
        starts: (cells,) where each cell begins in that order.
    """

    def __init__(
        self,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        *,
        tiers: Mapping[str, int],
        strong: str,
        weak: str,
    ) -> None:
        """Group the battles of models whose tiers are given."""
        count = max(tiers.values()) + 1
        a, b = (np.array([tiers[name] for name in names]) for names in (model_a, model_b))
        outcome = np.array([_OUTCOMES.index(name) for name in winner])
        keys, cells = np.unique((a * count + b) * len(_OUTCOMES) + outcome, return_inverse=True)
        self.order = np.argsort(cells, kind="stable")
        self.starts = np.searchsorted(cells[self.order], np.arange(len(keys)))
        self._pair = tiers[strong], tiers[weak]
        self._nodes = count + 1
        # One more node than tiers: RouteLLM's rows of a battle inside one tier keep only the loser's column, which
        # makes them battles of that tier against an opponent whose rating is 0.
        self._wins = np.zeros((len(keys), self._nodes, self._nodes))
        for cell, key in enumerate(keys):
            pair, won = divmod(int(key), len(_OUTCOMES))
            tier_a, tier_b = divmod(pair, count)
            first = count if tier_a == tier_b else tier_a
            # Two rows a battle; of a tie's two, each side wins one.
            self._wins[cell, first, tier_b] += (2, 0, 1)[won]
            self._wins[cell, tier_b, first] += (0, 2, 1)[won]

    def win_rates(self, sums: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n,) win rates of the strong model's tier from (n, cells) sums of weights."""
        strong, weak = self._pair
        flat = self._wins.reshape(len(self._wins), -1)
        ratings = _fit((sums.astype(np.float64) @ flat).reshape(-1, self._nodes, self._nodes))
        return sigmoid(ratings[:, strong] - ratings[:, weak])


def _fit(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the most likely (n, nodes) ratings, in natural logarithms of odds; the last node's stays 0.

    Args:
        wins: (n, nodes, nodes); entry i, j is how often i won against j.
    """
    count, nodes, _ = wins.shape
    games = wins + wins.swapaxes(1, 2)
    ratings = np.zeros((count, nodes))
    diagonal = np.arange(nodes - 1)
    for _ in range(50):
        chance = sigmoid(ratings[:, :, None] - ratings[:, None, :])
        gradient = (wins - games * chance).sum(axis=2)[:, :-1]
        curvature = games * chance * (1 - chance)
        hessian = -curvature[:, :-1, :-1]
        # Where nobody fought inside a tier only differences are determined: a little ridge picks one of the equals.
        total = curvature.sum(axis=2)
        hessian[:, diagonal, diagonal] += total[:, :-1] + 1e-13 * total.max(axis=1, keepdims=True)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        ratings[:, :-1] += step
        if np.abs(step).max() < 1e-12:
            break
    return ratings
