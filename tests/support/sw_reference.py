"""The truth that sw_ranking is tested against: RouteLLM's formulas restated in float64 NumPy.

It shares no code with the package and prefers the plain way to the fast one. Two forms stand beside each other and are
tested against each other and against RouteLLM's own numbers:

* row by row: every battle makes two rows of a design matrix, one logistic regression over all of them for each query;
* collapsed: the weights of battles that share tiers and outcome are summed into `wins[i, j]`, the weight with which i
  beat j, and a Bradley-Terry model is fitted to that matrix, by Newton's method, for many queries at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np

LN10 = math.log(10.0)
ANCHORED = {"llama-2-70b-chat": 1082.0}
# A Newton step this small was the last: the error is squared with each.
CONVERGED = 1e-10

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def columns_of(model_a: Sequence[Hashable], model_b: Sequence[Hashable]) -> list[Hashable]:
    """The competitors in the order of RouteLLM's columns: first appearance, all of model_a before all of model_b."""
    return list(dict.fromkeys([*model_a, *model_b]))


def design(
    model_a: Sequence[Hashable], model_b: Sequence[Hashable], winner: Sequence[str], columns: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """Two rows a battle, all first copies before all second ones: features (2n, p) and labels (2n,).

    A tie is a win in its first copy and a loss in its second. Where a competitor meets itself, its second feature
    overwrites its first: what stays is -ln 10, with label 1 where model_a won.
    """
    index = {name: i for i, name in enumerate(columns)}
    count = len(winner)
    features, labels = np.zeros((2 * count, len(columns))), np.zeros(2 * count)
    for copy in (0, 1):
        for i, (a, b, won) in enumerate(zip(model_a, model_b, winner, strict=True), start=copy * count):
            features[i, index[a]] = LN10
            features[i, index[b]] = -LN10
            labels[i] = won == "model_a" or (won == "tie" and copy == 0)
    return features, labels


def fit_rows_newton(features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients of the largest likelihood; the shortest such vector where there are several."""
    coefficients = np.zeros(features.shape[1])
    weights = weights / weights.sum()

    def loss(at: np.ndarray) -> float:
        raw = features @ at
        return float(weights @ (np.logaddexp(0.0, raw) - labels * raw))

    for _ in range(200):
        share = sigmoid(features @ coefficients)
        gradient = features.T @ (weights * (share - labels))
        hessian = (features * (weights * share * (1.0 - share))[:, None]).T @ features
        step = np.linalg.pinv(hessian, rcond=1e-13, hermitian=True) @ gradient
        before, length = loss(coefficients), 1.0
        while loss(coefficients - length * step) > before + 1e-15 and length > 1e-3:
            length /= 2.0
        coefficients = coefficients - length * step
        if np.abs(step).max() <= CONVERGED * (1.0 + np.abs(coefficients).max()):
            return coefficients
    raise ArithmeticError("the likelihood has no finite maximum")


def fit_rows_lbfgs(features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Where scikit-learn's unpenalised LogisticRegression stops (1.4 and later): L-BFGS from zero, mean loss."""
    from scipy.optimize import minimize

    total = weights.sum()

    def loss_and_gradient(at: np.ndarray) -> tuple[float, np.ndarray]:
        raw = features @ at
        loss = weights @ (np.logaddexp(0.0, raw) - labels * raw) / total
        return float(loss), features.T @ (weights * (sigmoid(raw) - labels) / total)

    options = {"maxiter": 100, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
    start = np.zeros(features.shape[1])
    return minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x


def global_ratings(
    model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str], fit: Fit = fit_rows_newton
) -> dict[str, float]:
    """RouteLLM's Elo of every model, best first; equal ones in the order of their first appearance."""
    columns = columns_of(model_a, model_b)
    features, labels = design(model_a, model_b, winner, columns)
    elo = 400.0 * fit(features, labels, np.ones(len(labels))) + 1000.0
    for name, rating in ANCHORED.items():
        if name in columns:
            elo = elo + (rating - elo[columns.index(name)])
    order = sorted(range(len(columns)), key=lambda i: -elo[i])
    return {str(columns[i]): float(elo[i]) for i in order}


def tiers_of(ratings: Mapping[str, float], num_tiers: int) -> dict[str, int]:
    """Cut ratings, sorted best first, into tiers with the least sum of population variances.

    Of equally good cuts the first. With more tiers than models some tiers stay empty: the best model is tier 0, the
    others stand alone in the last tiers.
    """
    names, values = list(ratings), list(ratings.values())
    count = len(names)
    spread = [[float(np.var(values[i : j + 1])) if j > i else 0.0 for j in range(count)] for i in range(count)]
    best, cuts = [spread[0]], []
    for _ in range(num_tiers - 1):
        totals, cut = [0.0], [0]
        for end in range(1, count):
            candidates = [best[-1][last] + spread[last + 1][end] for last in range(end)]
            totals.append(min(candidates))
            cut.append(candidates.index(totals[-1]))
        best.append(totals)
        cuts.append(cut)
    ends = [count - 1]
    for cut in reversed(cuts):
        ends.append(cut[ends[-1]])
    tiers, begin = {}, 0
    for tier, end in enumerate(reversed(ends)):
        for name in names[begin : end + 1]:
            tiers[name] = tier
        begin = end + 1
    return tiers


class SimilarityWeighted:
    """RouteLLM's sw_ranking in float64. The float32 embeddings it is given are the truth, whatever their length."""

    def __init__(
        self,
        embeddings: np.ndarray,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        *,
        num_tiers: int = 10,
        same_tier: str = "routellm",
        tiers: Mapping[str, int] | None = None,
        fit: Fit = fit_rows_newton,
    ) -> None:
        """Rate the models and cut them into tiers, unless the tiers are given.

        Args:
            embeddings: (n, dim), one row a battle.
            model_a: n names.
            model_b: n names.
            winner: n of "model_a", "model_b", "tie".
            num_tiers: Number of tiers.
            same_tier: "routellm" keeps the row that `design` makes of a battle within one tier, "ignore" drops such
                battles before anything else: the largest similarity is that of the others, too.
            tiers: Tier of each model; None computes them.
            fit: How the models' global ratings are fitted.
        """
        self.num_tiers = num_tiers
        self.tiers = dict(tiers or tiers_of(global_ratings(model_a, model_b, winner, fit), num_tiers))
        tier_a, tier_b = (np.array([self.tiers[name] for name in side]) for side in (model_a, model_b))
        self.kept = np.ones(len(winner), bool) if same_tier == "routellm" else tier_a != tier_b
        self.embeddings = embeddings if self.kept.all() else embeddings[self.kept]
        self.tier_a, self.tier_b = tier_a[self.kept].tolist(), tier_b[self.kept].tolist()
        self.winner = [won for won, kept in zip(winner, self.kept, strict=True) if kept]
        # The last competitor is the anchor, of rating 0: it beats a tier when model_a wins a battle within that tier.
        size = num_tiers + 1
        first = np.where(tier_a == tier_b, num_tiers, tier_a)[self.kept]
        outcome = np.array([("model_b", "tie", "model_a").index(won) for won in self.winner])
        # A battle belongs to one cell of (first, second, outcome); sorted by it, cell sums are sums of neighbours.
        keys = (first * size + tier_b[self.kept]) * 3 + outcome
        self._order = np.argsort(keys, kind="stable")
        self._cells, self._starts = np.unique(keys[self._order], return_index=True)

    def weights(self, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Battles' weights (q, n) of some queries at a time, each query's up to a factor of its own.

        10 * 10**(s / max s) is divided by its largest value: the fit depends on ratios only, and where all
        similarities are negative the power itself may exceed any float.
        """
        for rows, similarity in self._similarities(queries):
            exponent = similarity / similarity.max(axis=1, keepdims=True)
            yield rows, 10.0 ** (exponent - exponent.max(axis=1, keepdims=True))

    def _similarities(self, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        count, at_once = len(self.embeddings), max(1, 30_000_000 // len(self.embeddings))
        wide = queries.astype(np.float64)
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        for begin in range(0, len(wide), at_once):
            some = wide[begin : begin + at_once]
            similarity = np.empty((len(some), count))
            for row in range(0, count, 8192):
                bank = self.embeddings[row : row + 8192].astype(np.float64)
                similarity[:, row : row + len(bank)] = some @ bank.T / np.linalg.norm(bank, axis=1)
            yield slice(begin, begin + len(some)), similarity

    def wins(self, weights: np.ndarray) -> np.ndarray:
        """(q, tiers + 1, tiers + 1): the weight with which each tier, and the anchor, beat each other."""
        size = self.num_tiers + 1
        sums = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        wins = np.zeros((len(weights), size, size))
        for key, total in zip(self._cells, sums.T, strict=True):
            (a, b), share = divmod(int(key) // 3, size), (key % 3) / 2
            wins[:, a, b] += share * total
            wins[:, b, a] += (1 - share) * total
        return wins

    def tier_ratings(self, queries: np.ndarray) -> np.ndarray:
        """(q, tiers) coefficients, where all tiers are ranked among each other; NaN for tiers without a kept battle."""
        ratings = np.full((len(queries), self.num_tiers), np.nan)
        for rows, weights in self.weights(queries):
            wins = self.wins(weights)
            ratings[rows] = fit_wins(wins)
            seen = (wins + wins.transpose(0, 2, 1)).any(axis=(0, 2))[:-1]
            ratings[rows, ~seen] = np.nan
        return ratings

    def win_rates(self, queries: np.ndarray, strong: str, weak: str) -> np.ndarray:
        """(q,) win rates of the largest likelihood, for a pair that is_determined.

        Who is not ranked among the pair's rivals by a finite maximum says nothing about the pair: its own battles are
        then foregone conclusions.
        """
        pair = [self.tiers[strong], self.tiers[weak]]
        rivals = self._rivals()[pair[0]]
        rates = []
        for _, weights in self.weights(queries):
            ratings = fit_wins(self.wins(weights) * (rivals[:, None] & rivals))
            rates.append(win_rate(ratings[:, pair[0]], ratings[:, pair[1]]))
        return np.concatenate(rates)

    def win_rates_row_by_row(
        self, queries: np.ndarray, strong: str, weak: str, fit: Fit = fit_rows_newton
    ) -> np.ndarray:
        """(q,) win rates as RouteLLM gets them: one regression over all rows for each query."""
        columns = columns_of(self.tier_a, self.tier_b)
        features, labels = design(self.tier_a, self.tier_b, self.winner, columns)
        pair = [columns.index(self.tiers[name]) for name in (strong, weak)]
        rates = []
        for _, weights in self.weights(queries):
            for row in weights:
                fitted = fit(features, labels, np.tile(row, 2))
                rates.append(win_rate(*fitted[pair]))
        return np.array(rates)

    def is_determined(self, strong: str, weak: str) -> bool:
        """Whether the pair's difference of ratings has one finite best value. It does not depend on the query, whose
        weights are all positive.
        """
        return bool(self._rivals()[self.tiers[strong], self.tiers[weak]])

    def _rivals(self) -> np.ndarray:
        """Whether each of two tiers, or the anchor, has beaten the other, maybe through third ones."""
        reach = (self.wins(np.ones((1, len(self.winner))))[0] > 0) | np.eye(self.num_tiers + 1, dtype=bool)
        for _ in range(len(reach).bit_length()):
            reach = (reach.astype(int) @ reach.astype(int)) > 0
        return reach & reach.T


def fit_wins(wins: np.ndarray) -> np.ndarray:
    """Bradley-Terry coefficients (q, p) of the largest likelihood for matrices (q, p + 1, p + 1), the anchor's being 0.

    The shortest such vector where the anchor has no battles and only differences count; 0 for who has none.
    """
    wins = wins / np.maximum(wins.sum(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    battles = wins + wins.transpose(0, 2, 1)
    ratings = np.zeros(wins.shape[:2])

    def loss(at: np.ndarray) -> np.ndarray:
        return (wins * np.logaddexp(0.0, at[:, None, :] - at[:, :, None])).sum(axis=(1, 2))

    for _ in range(200):
        share = sigmoid(ratings[:, :, None] - ratings[:, None, :])
        gradient = (battles * share - wins).sum(axis=2)[:, :-1]
        curvature = battles * share * (1.0 - share)
        hessian = -curvature[:, :-1, :-1]
        diagonal = np.arange(hessian.shape[1])
        hessian[:, diagonal, diagonal] += curvature.sum(axis=2)[:, :-1]
        step = (np.linalg.pinv(hessian, rcond=1e-13, hermitian=True) @ gradient[:, :, None])[:, :, 0]
        length, before = np.ones(len(wins)), loss(ratings)
        moved = ratings.copy()
        for _ in range(10):
            moved[:, :-1] = ratings[:, :-1] - length[:, None] * step
            worse = loss(moved) > before + 1e-15
            if not worse.any():
                break
            length[worse] /= 2.0
        ratings = moved
        if (np.abs(step) <= CONVERGED * (1.0 + np.abs(ratings[:, :-1]))).all():
            return ratings[:, :-1] / LN10
    raise ArithmeticError("the likelihood has no finite maximum")


def win_rate(strong: np.ndarray, weak: np.ndarray) -> np.ndarray:
    """The strong model's win rate from two coefficients: 400 Elo for each factor of ten in the odds."""
    return 1.0 - 1.0 / (1.0 + 10.0 ** (strong - weak))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e**-x), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))
