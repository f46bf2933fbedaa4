"""Every model's strength and slope along one score of the prompts, by maximum likelihood.

logit P(a beats b | prompt) = (slope_a - slope_b) * need + (strength_a - strength_b): the two-parameter model of item
response theory, with battles for answers. Convex, solved with Newton's method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles

_MAX_STEPS: Final = 50
_TOLERANCE: Final = 1e-10
_HALVINGS: Final = 30

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ItemResponse:
    """Slopes and strengths, (m,) float64 each, in logits; only differences between models have a meaning."""

    slope: Vector
    strength: Vector

    def logits(self, battles: Battles, need: Vector) -> Vector:
        """Return (n,) logits that model_a wins; `need` is (u,), a prompt's score."""
        slope = self.slope[battles.model_a] - self.slope[battles.model_b]
        return slope * need[battles.prompt] + (self.strength[battles.model_a] - self.strength[battles.model_b])

    def factors(self, vector: Vector, constant: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return P (m, 3), W (3, dim) and w (3,) of RouteLLM's mf whose logits are these.

        mf scales every model's vector to unit length, so slope and strength are brought into the unit circle and a
        third component, which the classifier ignores, makes up the length.

        Args:
            vector: (dim,) with vector @ embedding the need.
            constant: Dimension of the embedding that is 1.
        """
        scale = np.sqrt(2.0) * np.maximum([np.abs(self.slope).max(), np.abs(self.strength).max()], 1e-9)
        inside = np.stack([self.slope, self.strength], axis=1) / scale
        rest = np.sqrt(np.maximum(0.0, 1.0 - (inside**2).sum(axis=1, keepdims=True)))
        projection = np.zeros((3, len(vector)))
        projection[0], projection[1, constant] = vector, 1.0
        parts = np.hstack([inside, rest]), projection, np.append(scale, 0.0)
        P, W, w = (part.astype(np.float32) for part in parts)  # noqa: N806 - the paper's letters
        return P, W, w


def fit_item_response(battles: Battles, need: Vector, members: NDArray[np.bool_], *, ridge: float) -> ItemResponse:
    """Fit slopes and strengths to some of the battles.

    Args:
        battles: Targets may be soft; weights count.
        need: (u,) score of each of battles.prompts, finite.
        members: (n,) which battles count, some at least.
        ridge: Half of it times the squares of all parameters is added to the mean log loss: models with few battles
            stay near 0, and the free additive constant is pinned.
    """
    count = len(battles.models)
    a, b = battles.model_a[members], battles.model_b[members]
    x, target = need[battles.prompt[members]], battles.target[members].astype(np.float64)
    weight = battles.weight[members].astype(np.float64)
    weight /= weight.sum()

    def logits(theta: Vector) -> Vector:
        slope, strength = theta[:count], theta[count:]
        return (slope[a] - slope[b]) * x + (strength[a] - strength[b])

    def loss(theta: Vector) -> float:
        z = logits(theta)
        return float(weight @ (np.logaddexp(0.0, z) - target * z) + ridge / 2.0 * theta @ theta)

    theta = np.zeros(2 * count)
    current = loss(theta)
    for _ in range(_MAX_STEPS):
        p = 1.0 / (1.0 + np.exp(-logits(theta)))
        residual = weight * (p - target)
        gradient = ridge * theta
        for offset, factor in ((0, residual * x), (count, residual)):
            gradient[offset : offset + count] += np.bincount(a, factor, count) - np.bincount(b, factor, count)
        curvature = weight * p * (1.0 - p)
        hessian = ridge * np.eye(2 * count)
        for row, column, factor in ((0, 0, x * x), (0, 1, x), (1, 1, np.ones_like(x))):
            block = _pair_matrix(a, b, curvature * factor, count)
            rows, columns = slice(row * count, (row + 1) * count), slice(column * count, (column + 1) * count)
            hessian[rows, columns] += block
            if row != column:
                hessian[columns, rows] += block
        step = np.linalg.solve(hessian, gradient)
        decrease = float(gradient @ step)
        for halving in range(_HALVINGS):
            candidate = theta - 0.5**halving * step
            value = loss(candidate)
            if value <= current:
                theta, current = candidate, value
                break
        if decrease < _TOLERANCE:
            break
    return ItemResponse(theta[:count], theta[count:])


def _pair_matrix(a: NDArray[np.int64], b: NDArray[np.int64], weight: Vector, count: int) -> Vector:
    """Sum weight * (e_a - e_b)(e_a - e_b)^T over battles."""
    off = np.bincount(a * count + b, weight, count * count).reshape(count, count)
    off = off + off.T
    summed: Vector = np.diag(off.sum(axis=1)) - off
    return summed
