"""Chooses the model of a pool that answers a prompt: the cheapest that is nearly as good as the best."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.data.names import spellings_of
from routellm_fast.decision import check_share
from routellm_fast.errors import InvalidArgumentError, InvalidThresholdError, UnknownModelError
from routellm_fast.pool.domination import dominators
from routellm_fast.pool.models import PoolModel
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How many prompts' embeddings are in memory at once.
_BATCH: Final = 4096


class RankedModel(NamedTuple):
    """One model in the ranking of a prompt.

    Attributes:
        model: Name of the model.
        win_rate: Its predicted win rate against the best model on this prompt; the best model itself has 1/2.
        cost_usd_per_1k: US dollars that 1,000 requests cost.
    """

    model: str
    win_rate: float
    cost_usd_per_1k: float


class PoolDecision(NamedTuple):
    """Which model of the pool a prompt goes to, and why.

    Attributes:
        model: Name of the chosen model.
        win_rate: Its predicted win rate against the best model on this prompt; the best model itself has 1/2.
        tau: The tau of the choice, which allows models with win_rate >= 1 - tau.
        cost_usd_per_1k: US dollars that 1,000 requests to it cost.
    """

    model: str
    win_rate: float
    tau: float
    cost_usd_per_1k: float


class ModelPool:
    """Chooses, for each prompt, the cheapest model whose win rate against the best one is at least 1 - tau.

    In other words, a model may answer where the best model's win rate against it is at most tau: tau does for a pool
    what the threshold does for a pair of models. The best model has win rate 1/2 against itself, so tau = 1/2 allows
    only the best model (and models that tie with it), and tau = 1 always chooses the cheapest. A larger tau never costs
    more.

    The best model is the one with the highest logit on the prompt, or, with `best_model`, one named model on every
    prompt. With a named best model tau may be anything in [0, 1]: that model may always answer, a cheaper model where
    the best model's win rate against it is at most tau, and a more expensive model never. For two models this is
    `Router.route` with threshold tau, except that a win rate equal to tau goes to the cheaper model.

    Among models of equal cost the first by name is chosen. Immutable and thread-safe; a choice depends on the prompt
    alone.
    """

    def __init__(
        self, router: MatrixFactorizationRouter, models: Sequence[PoolModel], *, best_model: str | None = None
    ) -> None:
        """Find the models in the router.

        Args:
            router: An mf router. Its own strong and weak model do not matter here.
            models: At least two models with distinct names. Two may be scored as the same model of the router.
            best_model: Name of the model in the pool that all others are compared with; None compares them with the
                model with the highest logit on each prompt.

        Raises:
            UnknownModelError: The router has no vector for a model, or best_model is not in the pool.
            InvalidArgumentError: There are fewer than two models, two have one name, or the router is of another kind.
        """
        if not isinstance(router, MatrixFactorizationRouter):
            kind = getattr(router, "kind", type(router).__name__)
            raise InvalidArgumentError(
                f"a pool needs a router of kind 'mf', which has a vector for each model; found {kind!r}"
            )
        # Cheapest first, then by name: the first model that may answer is the choice.
        self._models = tuple(sorted(models, key=lambda model: (model.cost_usd_per_1k, model.name)))
        names = [model.name for model in self._models]
        if len(names) < 2 or len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            found = f"{', '.join(twice)} more than once" if twice else f"{len(names)}"
            raise InvalidArgumentError(f"a pool needs at least two models with distinct names, found {found}")
        self._router = router
        self._columns = np.array([_column(model, router.model_names) for model in self._models])
        self._costs = np.array([model.cost_usd_per_1k for model in self._models])
        self._best = None if best_model is None else names.index(_named(best_model, names))

    @property
    def router(self) -> MatrixFactorizationRouter:
        """The router whose logits rank the models."""
        return self._router

    @property
    def models(self) -> tuple[PoolModel, ...]:
        """The m models, cheapest first. Arrays with a column per model have this order."""
        return self._models

    @property
    def best_model(self) -> str | None:
        """Name of the model that the others are compared with; None where that is the best on each prompt."""
        return None if self._best is None else self._models[self._best].name

    @property
    def least_tau(self) -> float:
        """The smallest tau that is allowed: 1/2, or 0 where the best model was named."""
        return 0.5 if self._best is None else 0.0

    def rank(self, prompt: str) -> list[RankedModel]:
        """Return all models, best first; models with equal win rates are ordered by cost, then by name."""
        return self.rank_batch([prompt])[0]

    def rank_batch(self, prompts: Sequence[str]) -> list[list[RankedModel]]:
        """Return what `rank` returns, for each prompt."""
        return self.rankings(self.admission_taus(prompts))

    def choose(self, prompt: str, tau: float) -> PoolDecision:
        """Return the cheapest model whose win rate against the best is at least 1 - tau.

        Raises:
            InvalidThresholdError: tau is outside [1/2, 1] (see `least_tau`) or NaN.
        """
        return self.choose_batch([prompt], tau)[0]

    def choose_batch(self, prompts: Sequence[str], tau: float) -> list[PoolDecision]:
        """Return what `choose` returns, for each prompt. Raises InvalidThresholdError as `choose` does."""
        tau = self.check_tau(tau)
        return self.decisions(self.admission_taus(prompts), tau)

    def tau_for(self, prompts: Sequence[str], *, cost_usd_per_1k: float) -> float:
        """Return the smallest tau whose choices on these prompts cost no more than a budget.

        Args:
            prompts: A sample of the traffic, at least one.
            cost_usd_per_1k: The budget: US dollars that 1,000 requests may cost on average.

        Raises:
            InvalidArgumentError: There are no prompts, or the budget is below the cheapest model's cost.
        """
        return self.tau_within(self.admission_taus(prompts), cost_usd_per_1k)

    def admission_taus(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return (n, m) float64: the smallest tau with which each model may answer each prompt.

        This is the win rate of the best model against it. Columns are in the order of `models`. A named best model has
        0 in its column, as it may always answer. Pass the result to the methods below, so that prompts are embedded
        once.
        """
        if isinstance(prompts, str):
            raise TypeError("prompts must be a sequence of str, not one str")
        embedder = self._router.embedder
        taus = np.empty((len(prompts), len(self._models)))
        for start in range(0, len(prompts), _BATCH):
            batch = prompts[start : start + _BATCH]
            taus[start : start + len(batch)] = self.admission_taus_from_embeddings(embedder.embed(batch))
        return taus

    def admission_taus_from_embeddings(self, embeddings: FloatArray) -> NDArray[np.float64]:
        """Return what `admission_taus` returns, for (n, dim) float32 C-contiguous embeddings.

        Raises:
            InvalidEmbeddingError: The array has another shape or dtype, or a value is not finite.
        """
        logits = self._router.model_logits(embeddings)[:, self._columns].astype(np.float64)
        best = logits.max(axis=1, keepdims=True) if self._best is None else logits[:, [self._best]]
        # The sigmoid through tanh: no overflow, and equal logits give 1/2 to the bit.
        taus: NDArray[np.float64] = np.tanh((best - logits) / 2.0) / 2.0 + 0.5
        if self._best is not None:
            taus[:, self._best] = 0.0
        return taus

    def win_rates(self, admission_taus: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n, m) float64: each model's win rate against the best one, for rows of `admission_taus`."""
        win_rates: NDArray[np.float64] = 1.0 - admission_taus
        if self._best is not None:
            win_rates[:, self._best] = 0.5
        return win_rates

    def dominators(self, admission_taus: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return (n, m) columns of the model that dominates each model on each prompt, -1 where none does.

        It costs no more, has no lower win rate, and is better in one of the two.
        """
        win_rates = self.win_rates(admission_taus)
        return dominators(self._costs, win_rates, self._costs, win_rates)

    def choices(self, admission_taus: NDArray[np.float64], tau: float) -> NDArray[np.intp]:
        """Return (n,) columns of the cheapest model that may answer. Raises InvalidThresholdError as `choose` does."""
        first: NDArray[np.intp] = np.argmax(admission_taus <= self.check_tau(tau), axis=1)
        return first

    def decisions(self, admission_taus: NDArray[np.float64], tau: float) -> list[PoolDecision]:
        """Return the choice for each row of `admission_taus`. Raises InvalidThresholdError as `choose` does."""
        chosen = self.choices(admission_taus, tau)
        rates = self.win_rates(admission_taus)[np.arange(len(chosen)), chosen]
        named = [(model.name, model.cost_usd_per_1k) for model in self._models]
        return [
            PoolDecision(named[column][0], rate, float(tau), named[column][1])
            for column, rate in zip(chosen.tolist(), rates.tolist(), strict=True)
        ]

    def rankings(self, admission_taus: NDArray[np.float64]) -> list[list[RankedModel]]:
        """Return what `rank` returns, for each row of `admission_taus`."""
        win_rates = self.win_rates(admission_taus)
        orders = np.argsort(-win_rates, axis=1, kind="stable")
        ordered = np.take_along_axis(win_rates, orders, axis=1)
        named = [(model.name, model.cost_usd_per_1k) for model in self._models]
        return [
            [RankedModel(named[column][0], rate, named[column][1]) for column, rate in zip(columns, row, strict=True)]
            for columns, row in zip(orders.tolist(), ordered.tolist(), strict=True)
        ]

    def tau_within(self, admission_taus: NDArray[np.float64], cost_usd_per_1k: float) -> float:
        """Return what `tau_for` returns, for rows of `admission_taus`."""
        budget = PoolModel("budget", cost_usd_per_1k).cost_usd_per_1k
        if len(admission_taus) == 0:
            raise InvalidArgumentError("finding tau for a budget takes prompts like your traffic: give at least one")
        if budget < self._costs[0]:
            raise InvalidArgumentError(
                f"a budget of {budget:g} USD per 1,000 requests is below the cost of the cheapest model, "
                f"{self._models[0].name} at {self._costs[0]:g}"
            )
        # Choices change at these values only, and cost falls from each to the next.
        steps = np.unique(np.append(admission_taus, self.least_tau))

        def is_within(tau: float) -> bool:
            counts = np.bincount(self.choices(admission_taus, tau), minlength=len(self._models))
            return bool(counts @ self._costs <= budget * len(admission_taus))

        # At the largest step the cheapest model answers everywhere, whatever rounding says.
        return float(steps[min(bisect_left(steps, True, key=is_within), len(steps) - 1)])

    def check_tau(self, tau: float) -> float:
        """Return tau as float. Raises InvalidThresholdError where it is below `least_tau`, above 1 or NaN."""
        number = check_share(tau, "tau")
        if number < self.least_tau:
            raise InvalidThresholdError(
                f"tau {tau} is below 0.5, the best model's win rate against itself: no model could answer. "
                "Give tau from 0.5 (only the best model) to 1 (the cheapest model), or name the model that all others "
                "are compared with (best_model)."
            )
        return number


def _named(best_model: str, names: Sequence[str]) -> str:
    """Return the name that the pool has for its best model."""
    found = spellings_of(best_model, names)
    if len(found) != 1:
        raise UnknownModelError(f"best_model {best_model!r} is not in the pool, which holds: {', '.join(names)}")
    return found[0]


def _column(model: PoolModel, names: Sequence[str]) -> int:
    """Return the place of a model among the router's, which training may have given another spelling."""
    found = spellings_of(model.scoring_name, names)
    if len(found) == 1:
        return names.index(found[0])
    if found:
        raise UnknownModelError(
            f"{model.scoring_name!r} may be any of the router's models {', '.join(found)}: name one of them"
        )
    close = difflib.get_close_matches(model.scoring_name, names, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UnknownModelError(
        f"the router has no vector for {model.scoring_name!r}, only for {len(names)} other models.{hint} For a model "
        "that the router knows by another name, or not at all, name a model of the router in scored_as."
    )
