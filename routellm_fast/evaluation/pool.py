"""How well a pool of models is chosen from: quality against cost over tau, beside what no router needs.

>>> from routellm_fast.data import read_golden  # doctest: +SKIP
>>> labelled = read_golden(path)  # doctest: +SKIP
>>> pool = priced_pool(router, labelled_of_training_groups)  # doctest: +SKIP
>>> result = evaluate_pool(pool, labelled_of_held_out_groups, name="RouterBench")  # doctest: +SKIP
>>> print(pool_table(result))  # doctest: +SKIP

The rows must be of prompt groups that the router was not trained on (`routellm_fast.data.held_out` says which).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.golden import Labelled
from routellm_fast.data.names import spellings_of
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation._cost_curves import Array, Curves, hull
from routellm_fast.evaluation.bootstrap import interval, resampled
from routellm_fast.evaluation.pool_results import (
    AtCost,
    AtQuality,
    CostQuality,
    PoolPoint,
    PoolResult,
    pool_rows,
    pool_table,
    pool_verdict,
)
from routellm_fast.interval import Interval
from routellm_fast.pool import ModelPool, PoolModel
from routellm_fast.pool.domination import dominators
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.texts import word_counts

__all__ = ["PoolResult", "evaluate_pool", "pool_rows", "pool_table", "pool_verdict", "priced_pool"]

COST_SHARES: Final = (0.1, 0.25, 0.5, 0.75)
QUALITY_SHARES: Final = (0.9, 0.95, 0.99, 1.0)
_TAUS: Final = 50
_LENGTH_STEPS: Final = 20
_Row = TypeVar("_Row", CostQuality, PoolPoint)


def priced_pool(
    router: MatrixFactorizationRouter,
    labelled: Sequence[Labelled],
    *,
    models: Sequence[str] | None = None,
    best_model: str | None = None,
) -> ModelPool:
    """Return a pool whose models cost what their answers in a table cost on average.

    Args:
        router: An mf router.
        labelled: Rows with costs. To take a price from the rows that are evaluated later would be to look ahead.
        models: Names of the pool's models; None takes all for which the rows have costs and the router a vector.
        best_model: See ModelPool.

    Raises:
        DataError: The rows hold no cost of a model.
        UnknownModelError, InvalidArgumentError: See ModelPool.
    """
    costs: dict[str, list[float]] = {}
    for row in labelled:
        for name, cost in row.costs.items():
            costs.setdefault(name, []).append(cost)
    if models is None:
        models = sorted(name for name in costs if spellings_of(name, router.model_names))
    columns = {name: next(iter(spellings_of(name, costs)), None) for name in models}
    missing = [name for name, column in columns.items() if column is None]
    if missing or not models:
        raise DataError(f"the rows hold no cost of {', '.join(missing) or 'any model'}: give prices instead")
    priced = [
        PoolModel(name, 1000.0 * float(np.mean(costs[column])))
        for name, column in columns.items()
        if column is not None
    ]
    return ModelPool(router, priced, best_model=best_model)


def evaluate_pool(
    pool: ModelPool,
    labelled: Sequence[Labelled],
    *,
    name: str = "",
    taus: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> PoolResult:
    """Choose from the pool for every row, at every tau, and say what that scores and costs.

    Choices rest on the pool's costs. What a choice costs is what the row says that answer cost, where all rows say so
    of all models, and the pool's cost else. A row on which a model of the pool was not run is left out and counted.

    Args:
        pool: The pool. Its models are looked up in the rows by name, then by the name that they are scored as, in any
            spelling that `routellm_fast.data.known_aliases` knows.
        labelled: Rows of prompt groups that the router was not trained on.
        name: Name of the table, for the record.
        taus: The values of tau to evaluate; None chooses about fifty, at even steps of how many models may answer.
            The prompts alone decide these, not the scores.
        resamples: Number of bootstrap resamples, at least 1.
        seed: Seed of the bootstrap.

    Raises:
        DataError: No row has scores of all models, a model is in none, or all models cost the same.
        InvalidArgumentError: resamples is below 1, or a tau is out of range (InvalidThresholdError).
    """
    if resamples < 1:
        raise InvalidArgumentError(f"a bootstrap draws at least once, found resamples = {resamples}")
    answers = _Answers.of(pool, labelled)
    low, high = float(answers.mean_costs.min()), float(answers.mean_costs.max())
    if not low < high:
        raise DataError(f"all models of the pool cost {low:g} USD per 1,000 requests: there is nothing to save")
    admission = pool.admission_taus(answers.prompts)
    wanted = _even_taus(admission, pool.least_tau) if taus is None else sorted({pool.check_tau(tau) for tau in taus})
    if not wanted:
        raise InvalidArgumentError("give at least one tau")
    chosen = np.stack([pool.choices(admission, tau) for tau in reversed(wanted)], axis=1)
    everyone = np.tile(np.arange(len(answers.names)), (len(answers.prompts), 1))
    routed, by_length, alone, oracle = _follow(
        answers, (chosen, answers.by_length(), everyone, answers.oracle()), resamples, seed
    )
    curve, mixture = routed.curves(), alone.curves().on_hull()
    area, mixture_aiq = curve.mean_quality(low, high), mixture.mean_quality(low, high)
    aiq, length_area = curve.on_hull().mean_quality(low, high), by_length.curves().mean_quality(low, high)
    best = answers.best
    models = [alone.named(model, i) for i, model in enumerate(answers.names)]
    points = [answers.point(tau, chosen[:, i], routed.named("", i)) for i, tau in enumerate(reversed(wanted))]
    return PoolResult(
        name=name,
        prompts=len(answers.prompts),
        groups=len(set(answers.groups)),
        dropped=len(labelled) - len(answers.prompts),
        costs="measured" if answers.are_measured else "priced",
        best_model=pool.best_model,
        models=tuple(_marked(models, models)),
        best_single=answers.names[best],
        cheapest=answers.names[answers.cheapest],
        curve=tuple(_marked(points, models)),
        mixture=tuple(answers.names[corner] for corner in hull(alone.cost[0], alone.quality[0])),
        oracle=oracle.named("oracle", 0),
        area=_interval(area),
        length_area=_interval(length_area),
        aiq=_interval(aiq),
        mixture_aiq=_interval(mixture_aiq),
        area_gain=_interval(area - mixture_aiq),
        aiq_gain=_interval(aiq - mixture_aiq),
        length_gain=_interval(area - length_area),
        at_cost=_at_cost(curve, mixture, alone.cost[:, best], alone.quality[:, best]),
        at_quality=_at_quality(curve, mixture, alone.cost[:, best], alone.quality[:, best]),
        settings={"seed": seed, "resamples": resamples},
    )


@dataclass(frozen=True, eq=False)
class _Answers:
    """What every model of the pool scored on every prompt, and what that cost; columns in the pool's order.

    Attributes:
        names: m models of the pool.
        prompts: n prompts.
        groups: n prompt groups.
        scores: (n, m)
        costs: (n, m) US dollars per 1,000 prompts.
        are_measured: Whether the rows say what each answer cost.
    """

    names: tuple[str, ...]
    prompts: list[str]
    groups: list[str]
    scores: Array
    costs: Array
    are_measured: bool

    @classmethod
    def of(cls, pool: ModelPool, labelled: Sequence[Labelled]) -> _Answers:
        known = sorted({name for row in labelled for name in row.scores})
        keys = [_key(model, known) for model in pool.models]
        missing = sorted({key for key in keys if key not in known})
        if missing:
            raise DataError(f"no row has a score of {', '.join(missing)}; there are {', '.join(known) or 'no rows'}")
        rows = [row for row in labelled if all(key in row.scores for key in keys)]
        if not rows:
            raise DataError(
                f"of {len(labelled)} rows none has scores of all of {', '.join(keys)}: take models off the pool"
            )
        are_measured = all(key in row.costs for row in rows for key in keys)
        listed = [model.cost_usd_per_1k for model in pool.models]
        return cls(
            tuple(model.name for model in pool.models),
            [row.prompt for row in rows],
            [row.group for row in rows],
            np.array([[row.scores[key] for key in keys] for row in rows]),
            np.array([[1000.0 * row.costs[key] for key in keys] if are_measured else listed for row in rows]),
            are_measured,
        )

    @cached_property
    def mean_scores(self) -> Array:
        return np.asarray(self.scores.mean(axis=0))

    @cached_property
    def mean_costs(self) -> Array:
        return np.asarray(self.costs.mean(axis=0))

    @property
    def best(self) -> int:
        """Column of the highest mean score, the cheaper of equals."""
        return int(np.lexsort((self.mean_costs, -self.mean_scores))[0])

    @property
    def cheapest(self) -> int:
        return int(np.argmin(self.mean_costs))

    def by_length(self) -> NDArray[np.intp]:
        """Return (n, steps + 1) columns: ever more of the longest prompts go to the best single model."""
        words = word_counts(self.prompts)
        rank = np.empty(len(words), dtype=np.intp)
        rank[np.argsort(-words, kind="stable")] = np.arange(len(words))
        limits = np.rint(np.linspace(0.0, 1.0, _LENGTH_STEPS + 1) * len(words))
        columns: NDArray[np.intp] = np.where(rank[:, None] < limits, self.best, self.cheapest)
        return columns

    def oracle(self) -> NDArray[np.intp]:
        """Return (n, 1) columns of the best score, and the cheapest where several have it."""
        candidates = np.where(self.scores == self.scores.max(axis=1, keepdims=True), self.costs, np.inf)
        column: NDArray[np.intp] = np.argmin(candidates, axis=1)[:, None]
        return column

    def point(self, tau: float, chosen: NDArray[np.intp], found: CostQuality) -> PoolPoint:
        """Return a point of the curve from its (n,) choices and what they scored and cost."""
        shares = np.bincount(chosen, minlength=len(self.names)) / len(chosen)
        named = {name: share for name, share in zip(self.names, shares.tolist(), strict=True) if share > 0.0}
        return PoolPoint(tau, found.quality, found.cost_usd_per_1k, float(shares @ self.mean_scores), named)


def _key(model: PoolModel, known: Sequence[str]) -> str:
    """Return the name by which the rows know a model; the name that it is scored as where they do not know it."""
    names = (name for own in (model.name, model.scoring_name) for name in spellings_of(own, known))
    return next(names, model.scoring_name)


@dataclass(frozen=True, slots=True, eq=False)
class _Followed:
    """Mean quality and cost of choices: (1 + resamples, columns), the prompts as they are first."""

    cost: Array
    quality: Array

    def curves(self) -> Curves:
        return Curves(zip(self.cost, self.quality, strict=True))

    def named(self, name: str, column: int) -> CostQuality:
        return CostQuality(name, _interval(self.quality[:, column]), _interval(self.cost[:, column]))


def _follow(answers: _Answers, choices: Sequence[NDArray[np.intp]], resamples: int, seed: int) -> list[_Followed]:
    """Return what each (n, t) array of choices scores and costs; all meet the same resamples of prompt groups."""
    at = np.arange(len(answers.prompts))[:, None]
    values = [values[at, columns] for columns in choices for values in (answers.costs, answers.scores)]
    index = np.unique(answers.groups, return_inverse=True)[1]
    sizes = np.bincount(index).astype(np.float64)
    sums = np.zeros((len(sizes), sum(part.shape[1] for part in values)))
    np.add.at(sums, index, np.concatenate(values, axis=1))
    means = np.concatenate(
        [counts @ sums / (counts @ sizes)[:, None] for counts in _draws(len(sizes), resamples, seed)]
    )
    parts = np.split(means, np.cumsum([part.shape[1] for part in values])[:-1], axis=1)
    return [_Followed(cost, quality) for cost, quality in zip(parts[::2], parts[1::2], strict=True)]


def _draws(count: int, resamples: int, seed: int) -> Iterator[Array]:
    """Yield (b, count) how often each group counts: once first, then as drawn. The draws do not depend on b."""
    yield np.ones((1, count))
    for counts in resampled(count, resamples, seed):
        yield counts.astype(np.float64)


def _marked(rows: Sequence[_Row], models: Sequence[CostQuality]) -> Iterator[_Row]:
    """Yield rows of a result with the single model that dominates each."""
    places = [np.array([[row.cost_usd_per_1k.value, row.quality.value] for row in found]).T for found in (rows, models)]
    for row, found in zip(rows, dominators(*places[0], *places[1]).tolist(), strict=True):
        yield replace(row, dominated_by=models[found].name) if found >= 0 else row


def _even_taus(admission: Array, least_tau: float) -> list[float]:
    steps = admission[admission > least_tau]
    between = np.quantile(steps, np.linspace(0.0, 1.0, _TAUS)).tolist() if len(steps) else []
    return sorted({least_tau, *between, 1.0})


def _at_cost(curve: Curves, mixture: Curves, best_cost: Array, best_quality: Array) -> tuple[AtCost, ...]:
    found = []
    for share in COST_SHARES:
        own, mixed = (_ratio(curves.quality_at(share * best_cost), best_quality) for curves in (curve, mixture))
        if np.isfinite(own[0]) and np.isfinite(mixed[0]):
            found.append(AtCost(share, _interval(own), _interval(mixed)))
    return tuple(found)


def _at_quality(curve: Curves, mixture: Curves, best_cost: Array, best_quality: Array) -> tuple[AtQuality, ...]:
    found = []
    for share in QUALITY_SHARES:
        shares = [_ratio(curves.cost_of(share * best_quality), best_cost) for curves in (curve, mixture)]
        own, mixed = (np.where(paid < 1.0, paid, 1.0) for paid in shares)
        found.append(AtQuality(share, _interval(own), _interval(mixed)))
    return tuple(found)


def _ratio(part: Array, whole: Array) -> Array:
    """NaN where there is no whole."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0.0)


def _interval(values: Array) -> Interval:
    """Value of the first, 95 % of the rest; resamples without an answer are left out."""
    return interval(float(values[0]), values[1:][np.isfinite(values[1:])])
