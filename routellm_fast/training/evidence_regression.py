"""Learn from a few hundred labels of one's own traffic, as much as they speak for and no more.

The gap between the models' scores is regressed on the score of a router that was trained before (the prior), on surface
features and on the words of a prompt, all at once, with a normal prior for each coefficient. How large the coefficients
of features and of words are at all differs from one traffic to the next: where requests are of one kind it is next to
nothing. So this is not chosen but weighed: every pair of variances in `VARIANCES` is a hypothesis, the labels give each
its marginal likelihood, and the coefficients are the mean over all of them. Where labels say nothing, "nothing" has the
largest weight, and what is left is the prior. One dot product, so the router is as fast as the one before.

Numpy only; the same to the last bit wherever its linear algebra is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr

# The share of the variance of gaps that features, or words, explain before anything is known of a traffic.
VARIANCES: Final = (0.0, 0.003, 0.01, 0.03, 0.1)
# How much likelier than each other hypothesis it is that features, or words, say nothing.
_NOTHING: Final = 8.0
# What is expected of the coefficient of the prior's score, and the variance of that. Like _NOTHING and VARIANCES they
# were chosen on the traffics of `python -m benchmarks quality-adapt`, for the mean gain and for the least of all.
_PRIOR_MEAN: Final = 0.12
_PRIOR_VARIANCE: Final = 0.0025
# Gaps, features and words that vary by less are all alike.
_ALIKE: Final = 1e-9

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What labels say about the need of a prompt for the strong model.

    Attributes:
        vector: (dim,) such that vector @ embedding + offset is a prompt's expected gap, in standard deviations of the
            gaps from their mean.
        offset: See vector.
        evidence: (features, words, probability): the variance of each hypothesis, and its probability given the labels.
    """

    vector: Vector
    offset: float
    evidence: tuple[tuple[float, float, float], ...]

    __repr__ = brief_repr

    @property
    def said_by_features(self) -> float:
        """How probable it is, given the labels, that surface features say something about gaps."""
        return sum(probability for features, _, probability in self.evidence if features)

    @property
    def said_by_words(self) -> float:
        """How probable it is, given the labels, that words say something about gaps."""
        return sum(probability for _, words, probability in self.evidence if words)


def learn(embeddings: Matrix, gaps: Vector, prior: Vector, *, features: Sequence[int]) -> Learned:
    """Learn the need of prompts from labels.

    Args:
        embeddings: (n, dim) of the labelled prompts.
        gaps: (n,) score of the strong model's answer less that of the weak model's.
        prior: (dim,) such that prior @ embedding orders prompts as the router does that was trained before.
        features: Indices of the dimensions that are surface features; the others are words.

    Where all gaps are alike the prior is all that is known.
    """
    columns = _Columns(embeddings, prior, np.asarray(features, dtype=np.int64))
    deviation = float(gaps.std()) if len(gaps) else 0.0
    if deviation < _ALIKE:
        return columns.learned(np.eye(1, columns.count)[0] * _PRIOR_MEAN, ((0.0, 0.0, 1.0),))
    target = (gaps - gaps.mean()) / deviation - _PRIOR_MEAN * columns.values[:, 0]
    gram, moments = columns.values.T @ columns.values, columns.values.T @ target
    hypotheses = [(of_features, of_words) for of_features in VARIANCES for of_words in VARIANCES]
    fits = [_fit(gram, moments, columns.variances(*hypothesis)) for hypothesis in hypotheses]
    log_odds = np.array([log for log, _ in fits]) + [
        sum(np.log(_NOTHING) for variance in hypothesis if not variance) for hypothesis in hypotheses
    ]
    probability = np.exp(log_odds - log_odds.max())
    probability /= probability.sum()
    coefficients = probability @ np.array([found for _, found in fits])
    coefficients[0] += _PRIOR_MEAN
    evidence = zip(hypotheses, probability.tolist(), strict=True)
    return columns.learned(coefficients, tuple((*hypothesis, share) for hypothesis, share in evidence))


class _Columns:
    """What is regressed on: the prior's score, each feature, and the words along their main directions.

    Prompts differ most along the directions that tell kinds of requests apart. So the prior variance of the coefficient
    of a direction is in proportion to the variance of the prompts along it: fine shades take more labels.
    """

    def __init__(self, embeddings: Matrix, prior: Vector, features: NDArray[np.int64]) -> None:
        dim = embeddings.shape[1]
        self._mean = embeddings.mean(axis=0)
        centred = embeddings - self._mean
        score = centred @ prior
        self._prior = prior / score.std() if score.std() > _ALIKE else np.zeros(dim)
        spread = centred[:, features].std(axis=0)
        told_apart = features[spread > _ALIKE]
        # All features together have the variance of one, and so have all words.
        self._features = np.zeros((dim, len(told_apart)))
        self._features[told_apart, np.arange(len(told_apart))] = 1.0 / (
            spread[spread > _ALIKE] * np.sqrt(max(1, len(told_apart)))
        )
        self._words = np.zeros((dim, dim - len(features)))
        words = np.setdiff1d(np.arange(dim), features)
        variance, directions = np.linalg.eigh(centred[:, words].T @ centred[:, words] / max(1, len(centred)))
        self._words[words] = directions * np.sqrt(np.maximum(variance, 0.0))
        mean_square = float(np.sum(np.maximum(variance, 0.0) ** 2))
        self._words *= 1.0 / np.sqrt(mean_square) if mean_square > _ALIKE**4 else 0.0
        self.values = np.column_stack([centred @ self._prior, centred @ self._features, centred @ self._words])

    @property
    def count(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    def variances(self, of_features: float, of_words: float) -> Vector:
        """Return the (count,) variances of the coefficients under a hypothesis."""
        features, words = self._features.shape[1], self._words.shape[1]
        return np.concatenate([[_PRIOR_VARIANCE], np.full(features, of_features), np.full(words, of_words)])

    def learned(self, coefficients: Vector, evidence: tuple[tuple[float, float, float], ...]) -> Learned:
        """Return coefficients of the columns as a vector for embeddings."""
        features = self._features.shape[1]
        vector = coefficients[0] * self._prior
        vector = vector + self._features @ coefficients[1 : 1 + features] + self._words @ coefficients[1 + features :]
        return Learned(vector, -float(vector @ self._mean), evidence)


def _fit(gram: Matrix, moments: Vector, variances: Vector) -> tuple[float, Vector]:
    """Return the log marginal likelihood, up to a constant, and the mean of the coefficients; noise has variance 1."""
    used = variances > 0.0
    scale = np.sqrt(variances[used])
    precision = np.eye(int(used.sum())) + scale[:, None] * gram[np.ix_(used, used)] * scale
    lower = np.linalg.cholesky(precision)
    solved = np.linalg.solve(lower, scale * moments[used])
    coefficients = np.zeros(len(variances))
    coefficients[used] = scale * np.linalg.solve(lower.T, solved)
    return float(0.5 * solved @ solved - np.log(np.diag(lower)).sum()), coefficients
