"""Make RouteLLM's `sw_ranking` of battles.

Nothing is fitted ahead of a query: the router is the battles themselves. What takes time is to embed their prompts, and
what takes care is to judge and calibrate the router on prompts that it does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.calibration import Calibration
from routellm_fast.data.battles import Battles
from routellm_fast.data.names import check_known
from routellm_fast.data.split import held_out
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.routers.similarity.router import SimilarityWeightedRouter
from routellm_fast.training.configs import SimilarityWeightedConfig
from routellm_fast.training.embedding import embedded
from routellm_fast.training.progress import OnProgress, Progress, ignore_progress

# Quantiles of more win rates are no finer than anyone asks for, and a bank of a gigabyte takes a minute for these.
_MAX_PROBES: Final = 2000
# The quantiles of fewer say little.
_MIN_PROBES: Final = 100
_WINNERS: Final = {1.0: "model_a", 0.0: "model_b", 0.5: "tie"}


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """Battles and the embeddings of their prompts.

    Attributes:
        battles: n battles; targets are 0, a half or 1.
        vectors: (r, dim) floats.
        row: (n,) int64 row of vectors of each battle; None: battle i has row i.
        prompt_row: (u,) int64 row of vectors of each distinct prompt.
    """

    battles: Battles
    vectors: NDArray[np.floating[Any]]
    row: NDArray[np.int64] | None
    prompt_row: NDArray[np.int64]

    @classmethod
    def of_embeddings(cls, battles: Battles, embeddings: NDArray[np.floating[Any]]) -> Bank:
        """Return battles with embeddings, one a battle. Raises DataError where there are more or fewer."""
        check_rows(len(embeddings), len(battles))
        prompt_row = np.unique(battles.prompt, return_index=True)[1].astype(np.int64)
        return cls(battles, embeddings, None, prompt_row)

    @classmethod
    def of_texts(cls, battles: Battles, embedder: Embedder, on_progress: OnProgress | None = None) -> Bank:
        """Embed each distinct prompt once.

        Battles on a prompt whose embedding is zero are left out: it is similar to nothing. A static embedder gives it
        to a text of which it knows no word.

        Raises:
            DataError: No battle is left.
        """
        vectors = embedded(battles.prompts, embedder, on_progress)
        told: NDArray[np.bool_] = np.any(vectors, axis=1)
        if not told.any():
            raise DataError(
                f"there is no battle to build from: the embedder {embedder.name} knows no word of any prompt"
            )
        if not told.all():
            battles, vectors = battles.of_prompts(told), vectors[told]
        return cls(battles, vectors, battles.prompt, np.arange(len(battles.prompts), dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of battles."""
        return len(self.battles)

    def prompt_vectors(self, prompts: NDArray[np.int64]) -> FloatArray:
        """Return the embeddings of distinct prompts, (k, dim) float32."""
        return np.ascontiguousarray(self.vectors[self.prompt_row[prompts]], dtype=np.float32)

    def build(
        self,
        scoring_pair: ModelPair,
        config: SimilarityWeightedConfig,
        keep: NDArray[np.bool_] | None = None,
        **common: Any,
    ) -> SimilarityWeightedRouter:
        """Return a router of the battles that `keep`, (n,), marks; None for all. See its `build` for what it raises."""
        battles, row = self.battles, self.row
        if keep is not None:
            battles = battles.select(keep)
            row = np.flatnonzero(keep) if row is None else row[keep]
        return SimilarityWeightedRouter.build(
            self.vectors if row is None else self.vectors[row],
            [battles.models[index] for index in battles.model_a],
            [battles.models[index] for index in battles.model_b],
            [_WINNERS[target] for target in battles.target.tolist()],
            strong_model=scoring_pair.strong,
            weak_model=scoring_pair.weak,
            **config.of_router(),
            **common,
        )


def check_rows(embeddings: int, battles: int) -> None:
    """Refuse counts that differ, where each battle has an embedding. Raises DataError."""
    if embeddings != battles:
        raise DataError(
            f"there are {embeddings:,} embeddings but {battles:,} battles, those with too short a prompt left out: "
            "these files do not belong together"
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainedSimilarityWeighted:
    """What SimilarityWeightedRouter.build takes, and how well its like did on prompts that it did not hold.

    Attributes:
        bank: The battles.
        scoring_pair: Whose win rate is computed.
        config: As given.
        calibration: On prompts held out where there are enough, else on prompts of the bank; its `dataset` says which.
            They differ: a prompt of the bank is most similar to itself.
        metrics: JSON-able: counts, config, and what was found on the prompts held out.
    """

    bank: Bank
    scoring_pair: ModelPair
    config: SimilarityWeightedConfig
    calibration: Calibration
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def router(self, **common: Any) -> SimilarityWeightedRouter:
        """Return the router of all battles; see its `build` for the arguments, embedder and model_pair first of all."""
        return self.bank.build(self.scoring_pair, self.config, **{"calibration": self.calibration, **common})


def train(
    battles: Battles,
    embedder: Embedder | None,
    scoring_pair: ModelPair,
    config: SimilarityWeightedConfig | None = None,
    *,
    embeddings: NDArray[np.floating[Any]] | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedSimilarityWeighted:
    """Embed, judge and calibrate.

    A share of the prompt groups is held out, and a router of all others scores them: so far as they hold battles of the
    scoring pair, these tell its loss. The router that is made in the end holds them too.

    Args:
        battles: Targets are 0, a half or 1; weights do not count. Their order decides between equal ratings: see
            `keep_order` of data.to_arrays.
        embedder: Embeds the prompts; None where embeddings are given.
        scoring_pair: Whose win rate is computed.
        config: None for RouteLLM's own settings.
        embeddings: (n, dim) floats, one row a battle; None: the embedder makes them.
        on_progress: Called as the work goes on.

    Raises:
        DataError: There is another number of embeddings, or the embedder knows no word of any prompt.
        UnknownModelError: There is no battle of a model of the scoring pair.
        RouteLLMError: See SimilarityWeightedRouter.build.
    """
    config = config or SimilarityWeightedConfig()
    check_known(scoring_pair, battles.models)
    if embeddings is not None:
        bank = Bank.of_embeddings(battles, embeddings)
    elif embedder is not None:
        bank = Bank.of_texts(battles, embedder, on_progress)
    else:
        raise InvalidArgumentError("give an embedder, or the embeddings of the prompts")
    report = on_progress or ignore_progress
    report(Progress("scoring prompts held out", 0, 1))
    # A compressed bank takes long to build, and its win rates are as good as the same.
    exact = replace(config, precision="float32", pca_dim=None)
    found, win_rates = _judge(bank, scoring_pair, exact)
    dataset = f"{len(win_rates):,} prompts held out, scored by a router of the others"
    if len(win_rates) < _MIN_PROBES:
        report(Progress("scoring prompts", 0, 1))
        probes = _sample(np.arange(len(bank.prompt_row)), config.seed)
        router = bank.build(scoring_pair, exact, embedder=None)
        win_rates = router.win_rates_from_embeddings(bank.prompt_vectors(probes))
        dataset = f"{len(win_rates):,} of the prompts in the bank"
    kept = bank.battles
    return TrainedSimilarityWeighted(
        bank,
        scoring_pair,
        config,
        Calibration.from_win_rates(win_rates, dataset=dataset),
        metrics={
            "battles": len(bank),
            "pair_battles": int(kept.of_pair(scoring_pair)[0].sum()),
            "ties": int((kept.target == 0.5).sum()),
            "left_out": len(battles) - len(bank),
            "prompts": len(kept.prompts),
            "prompt_groups": len(set(kept.groups)),
            "models": len(np.union1d(kept.model_a, kept.model_b)),
            "dim": int(bank.vectors.shape[1]),
            "config": asdict(config),
            "held_out": found,
            "calibration": {"dataset": dataset, "win_rates": _spread(win_rates)},
        },
    )


def _judge(
    bank: Bank, scoring_pair: ModelPair, config: SimilarityWeightedConfig
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Return metrics and win rates of prompts held out; none where there are no two sides, or one cannot do alone."""
    nothing = np.zeros(0, dtype=np.float32)
    battles = bank.battles
    out = held_out(battles.groups, config.held_out_share, seed=config.seed)
    if out.all() or not out.any():
        return {"prompts": 0}, nothing
    learned = ~out[battles.prompt]
    try:
        router = bank.build(scoring_pair, config, learned, embedder=None)
    except (UnknownModelError, InvalidArgumentError) as error:
        return {"prompts": 0, "reason": str(error)}, nothing
    probes = _sample(np.flatnonzero(out), config.seed)
    win_rates = router.win_rates_from_embeddings(bank.prompt_vectors(probes))
    found: dict[str, Any] = {"prompts": len(probes), "win_rates": _spread(win_rates)}
    rate_of = np.full(len(battles.prompts), np.nan)
    rate_of[probes] = win_rates
    of_pair, target = battles.of_pair(scoring_pair)
    rate = rate_of[battles.prompt]
    tested = of_pair & np.isfinite(rate)
    found["pair_battles"] = int(tested.sum())
    if tested.any():
        seen = target[learned & of_pair]
        decided = tested & (target != 0.5)
        found["loss"] = _log_loss(rate[tested], target[tested])
        # What the same share for every prompt would have cost: that of the battles in the bank.
        found["constant_loss"] = _log_loss(np.full(tested.sum(), seen.mean() if len(seen) else 0.5), target[tested])
        found["accuracy"] = _rounded(np.mean((rate > 0.5) == (target > 0.5), where=decided)) if decided.any() else None
    return found, win_rates


def _log_loss(win_rate: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Mean log loss in nats."""
    inside = np.clip(win_rate, 1e-7, 1.0 - 1e-7)
    return _rounded(-np.mean(target * np.log(inside) + (1.0 - target) * np.log1p(-inside)))


def _spread(win_rates: NDArray[np.float32]) -> dict[str, float]:
    quantiles = np.quantile(win_rates.astype(np.float64), (0.0, 0.05, 0.5, 0.95, 1.0))
    return dict(zip(("min", "p05", "median", "p95", "max"), map(_rounded, quantiles), strict=True))


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def _sample(prompts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if len(prompts) <= _MAX_PROBES:
        return prompts
    return np.sort(np.random.default_rng(seed).choice(prompts, _MAX_PROBES, replace=False))
