"""Make RouteLLM's `sw_ranking` of battles.

Nothing is fitted ahead of a query: the router is the battles themselves. What takes time is to embed their prompts, and
what takes care is to judge and calibrate the router on prompts that it does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
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
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.routers.similarity.router import Ranking, SimilarityWeightedRouter
from routellm_fast.training.configs import SimilarityWeightedConfig
from routellm_fast.training.embedding import embedded
from routellm_fast.training.progress import OnProgress, Progress, ignore_progress
from routellm_fast.training.verdict import check_tells_apart, judged

# Quantiles of more win rates are no finer than anyone asks for, and a bank of a gigabyte takes a minute for these.
_MAX_PROBES: Final = 2000
# The quantiles of fewer say little: then all prompts are scored, in so many parts.
_MIN_PROBES: Final = 100
_FOLDS: Final = 5
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

    def ranking(self, config: SimilarityWeightedConfig) -> Ranking:
        """Return the tiers that all battles make. Raises what its `of_battles` raises."""
        model_a, model_b, winner = self._columns(self.battles)
        return Ranking.of_battles(
            model_a,
            model_b,
            winner,
            num_tiers=config.num_tiers,
            same_tier=config.same_tier,
            solver=config.solver,
        )

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
        model_a, model_b, winner = self._columns(battles)
        return SimilarityWeightedRouter.build(
            self.vectors if row is None else self.vectors[row],
            model_a,
            model_b,
            winner,
            strong_model=scoring_pair.strong,
            weak_model=scoring_pair.weak,
            **config.of_router(),
            **common,
        )

    @staticmethod
    def _columns(battles: Battles) -> tuple[list[str], list[str], list[str]]:
        """Return both models of each battle, and who won."""
        return (
            [battles.models[index] for index in battles.model_a],
            [battles.models[index] for index in battles.model_b],
            [_WINNERS[target] for target in battles.target.tolist()],
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
        calibration: Of the tiers of this router, on prompts that were scored without their own battles: a prompt of the
            bank is most similar to itself. Its `dataset` says how they were chosen.
        metrics: JSON-able: counts, config, and what was found on the prompts held out.
        ranking: The tiers of all battles.
    """

    bank: Bank
    scoring_pair: ModelPair
    config: SimilarityWeightedConfig
    calibration: Calibration
    ranking: Ranking
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def router(self, **common: Any) -> SimilarityWeightedRouter:
        """Return the router of all battles; see its `build` for the arguments, embedder and model_pair first of all."""
        own = {"calibration": self.calibration, "ranking": self.ranking}
        return self.bank.build(self.scoring_pair, self.config, **{**own, **common})


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

    The router that is made in the end holds all battles, and its tiers are those of all battles. To judge and to
    calibrate it, a share of the prompt groups is held out: their prompts are scored with the same tiers by the battles
    of all other groups. Where these are fewer than 100 prompts, all are scored in turn, a fifth at a time.

    Args:
        battles: Targets are 0, a half or 1; weights do not count. Their order decides between equal ratings: see
            `keep_order` of data.to_arrays.
        embedder: Embeds the prompts; None where embeddings are given.
        scoring_pair: Whose win rate is computed.
        config: None for RouteLLM's own settings.
        embeddings: (n, dim) floats, one row a battle; None: the embedder makes them.
        on_progress: Called as the work goes on.

    Raises:
        DataError: There is another number of embeddings, the embedder knows no word of any prompt, or the router could
            not tell prompts apart: both models of the pair are in one tier, or all win rates are equal.
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
    ranking = bank.ranking(config)
    _check_tiers(ranking, scoring_pair)
    report = on_progress or ignore_progress
    report(Progress("scoring prompts held out", 0, 1))
    # A compressed bank takes long to build, and its win rates are as good as the same.
    exact = replace(config, precision="float32", pca_dim=None)
    left_out = _LeftOut.of(bank, ranking, scoring_pair, exact)
    win_rates = left_out.win_rates
    dataset = f"{len(win_rates):,} prompts held out, scored without their own battles"
    if not len(win_rates):
        report(Progress("scoring prompts", 0, 1))
        probes = _sample(np.arange(len(bank.prompt_row)), config.seed)
        router = bank.build(scoring_pair, exact, ranking=ranking, embedder=None)
        win_rates = router.win_rates_from_embeddings(bank.prompt_vectors(probes))
        dataset = f"{len(win_rates):,} of the prompts in the bank"
    check_tells_apart(win_rates)
    kept = bank.battles
    return TrainedSimilarityWeighted(
        bank,
        scoring_pair,
        config,
        Calibration.from_win_rates(win_rates, dataset=dataset),
        ranking,
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
            **left_out.metrics(kept, scoring_pair, config.seed),
            "calibration": {"dataset": dataset, "win_rates": _spread(win_rates)},
        },
    )


def _check_tiers(ranking: Ranking, pair: ModelPair) -> None:
    """Refuse tiers by which every win rate would be a half. Raises DataError."""
    strong, weak = (int(ranking.tiers[ranking.index(name)]) for name in pair)
    if strong == weak:
        raise DataError(
            f"{pair.strong} and {pair.weak} are in one tier, {strong} of {ranking.num_tiers} (0 is the best), with "
            f"{int((ranking.tiers == strong).sum()) - 2} other models of {len(ranking.models)}: every win rate would "
            "be 0.5, whatever the prompt. Models with few battles take up tiers: leave them out, give num_tiers "
            "(--num-tiers) more, or give more battles of the two models"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _LeftOut:
    """Win rates of prompts by the battles on other prompts.

    Attributes:
        rates: (u,) float64 of each distinct prompt, NaN where it was not scored.
        seen: (n,) the battles that no scored prompt has; None where every prompt was scored in its turn.
        reason: Why prompts were not scored; "" where they were.
    """

    rates: NDArray[np.float64]
    seen: NDArray[np.bool_] | None = None
    reason: str = ""

    @classmethod
    def of(cls, bank: Bank, ranking: Ranking, pair: ModelPair, config: SimilarityWeightedConfig) -> _LeftOut:
        """Score a held-out share of the prompts, or all in turn where that would be too few."""
        battles, share = bank.battles, config.held_out_share
        rates, reason = np.full(len(battles.prompts), np.nan), ""
        out = held_out(battles.groups, share, seed=config.seed)
        parts, seen = [out], ~out[battles.prompt]
        in_turn = share > 0.0 and out.sum() < _MIN_PROBES
        if in_turn:
            borders = [held_out(battles.groups, k / _FOLDS, seed=config.seed) for k in range(_FOLDS)]
            borders.append(np.ones_like(out))
            parts = [above & ~below for below, above in pairwise(borders)]
        for part in parts:
            if part.all() or not part.any():
                continue
            try:
                router = bank.build(pair, config, ~part[battles.prompt], ranking=ranking, embedder=None)
            except InvalidArgumentError as error:  # these battles do not compare the pair
                reason = str(error)
                continue
            probes = _sample(np.flatnonzero(part), config.seed)
            rates[probes] = router.win_rates_from_embeddings(bank.prompt_vectors(probes))
        return cls(rates, None if in_turn else seen, reason)

    @property
    def win_rates(self) -> NDArray[np.float32]:
        """The win rates of the prompts that were scored, (k,)."""
        return self.rates[np.isfinite(self.rates)].astype(np.float32)

    def metrics(self, battles: Battles, pair: ModelPair, seed: int) -> dict[str, Any]:
        """Return what the record holds: `held_out`, and the `verdict` on the battles of the pair."""
        of_pair, target = battles.of_pair(pair)
        rate = self.rates[battles.prompt]
        tested = of_pair & np.isfinite(rate)
        found: dict[str, Any] = {"prompts": len(self.win_rates)}
        if len(self.win_rates):
            found |= {"win_rates": _spread(self.win_rates), "pair_battles": int(tested.sum())}
        if self.reason:
            found["reason"] = self.reason
        verdict = judged(
            replace(battles, weight=np.ones_like(battles.weight)),
            target,
            tested,
            self.rates,
            seen=None if self.seen is None else self.seen & of_pair,
            seed=seed,
        )
        if tested.any():
            decided = tested & (target != 0.5)
            found |= {"loss": verdict.loss, "constant_loss": verdict.constant_loss}
            right = np.mean((rate > 0.5) == (target > 0.5), where=decided) if decided.any() else None
            found["accuracy"] = None if right is None else _rounded(right)
        return {"held_out": found, "verdict": verdict.to_json()}


def _spread(win_rates: NDArray[np.float32]) -> dict[str, float]:
    quantiles = np.quantile(win_rates.astype(np.float64), (0.0, 0.05, 0.5, 0.95, 1.0))
    return dict(zip(("min", "p05", "median", "p95", "max"), map(_rounded, quantiles), strict=True))


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def _sample(prompts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    if len(prompts) <= _MAX_PROBES:
        return prompts
    return np.sort(np.random.default_rng(seed).choice(prompts, _MAX_PROBES, replace=False))
