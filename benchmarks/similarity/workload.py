"""Battles to rank by: synthetic ones with the shape of text-embedding-3-small, and real texts as we embed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import routellm_fast as rf
from benchmarks.harness.places import data_folder
from benchmarks.harness.prompts import example_prompts, prompts_at_hand
from benchmarks.similarity.collapsed import Cells
from benchmarks.similarity.names import SW_NAMES
from routellm_fast.routers import SimilarityWeightedRouter

# The generators are the tests' own: what is measured is what is tested.
from tests.support import sw_data, sw_reference

# RouteLLM's.
NUM_TIERS: Final = 10
_SEED: Final = 65


@dataclass(frozen=True, slots=True, eq=False)
class RankingTask:
    """Battles and the queries that are ranked by them.

    Attributes:
        embeddings: (battles, dim) float32.
        model_a, model_b, winner: One entry a battle.
        queries: (queries, dim) float32, none of them a battle's.
        strong, weak: The pair whose win rate is asked for.
    """

    embeddings: NDArray[np.float32]
    model_a: Sequence[str]
    model_b: Sequence[str]
    winner: Sequence[str]
    queries: NDArray[np.float32]
    strong: str
    weak: str

    def cells(self, tiers: Mapping[str, int]) -> Cells:
        """Group the battles by tiers, for the numpy peer."""
        return Cells(self.model_a, self.model_b, self.winner, tiers=tiers, strong=self.strong, weak=self.weak)

    def expected(self, tiers: Mapping[str, int], queries: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the tests' float64 win rates of queries: the truth that everybody is held against."""
        names = self.model_a, self.model_b, self.winner
        truth = sw_reference.SimilarityWeighted(self.embeddings, *names, tiers=tiers, num_tiers=NUM_TIERS)
        return truth.win_rates(queries, self.strong, self.weak)

    def router(
        self, *, threads: int = 1, embedder: rf.StaticEmbedder | None = None, solver: str = "exact"
    ) -> SimilarityWeightedRouter:
        """Build ours in float32."""
        return SimilarityWeightedRouter.build(
            self.embeddings,
            self.model_a,
            self.model_b,
            self.winner,
            strong_model=self.strong,
            weak_model=self.weak,
            embedder=embedder,
            num_tiers=NUM_TIERS,
            solver=solver,
            threads=threads,
        )

    def routers(
        self, *, threads: int = 1, embedder: rf.StaticEmbedder | None = None
    ) -> dict[str, SimilarityWeightedRouter]:
        """Build ours in every precision, all of which share one bank."""
        exact = self.router(threads=threads, embedder=embedder)
        return {name: in_precision(exact, precision) for precision, name in SW_NAMES.items()}


def openai_like_battles(
    count: int, queries: int, *, prepare: Callable[[NDArray[np.float32]], None] | None = None
) -> RankingTask:
    """Return battles on 1,536-d embeddings with clusters, as an arena's prompts have them.

    Args:
        count: Number of battles.
        queries: Number of queries.
        prepare: Changes the embeddings in place, before anything is derived from them.
    """
    embeddings = sw_data.openai_like(count, seed=_SEED)
    if prepare is not None:
        prepare(embeddings)
    return _battles(embeddings, sw_data.openai_like_queries(embeddings, queries, seed=_SEED))


def shipped_token_embedder() -> rf.StaticEmbedder:
    """Return the embedder that ships, without surface features: counts would outweigh all else in a cosine."""
    shipped = rf.load_router().embedder
    assert isinstance(shipped, rf.StaticEmbedder)
    return shipped.replace(surface_features=())


def text_battles(embedder: rf.StaticEmbedder, count: int, prompts: int) -> tuple[RankingTask, list[str], str]:
    """Return battles on embeddings of texts, the prompts to route (none a battle's text), and what they are."""
    found = prompts_at_hand()
    wanted = count + prompts + count // 100
    texts = _shuffled_words(wanted) if found.missing else sw_data.real_texts(data_folder(), wanted)
    rng = np.random.default_rng(_SEED)
    asked = [found.texts[i] for i in rng.permutation(len(found.texts))[:prompts]]
    has_tokens = np.abs(embedder.embed(texts)).max(axis=1) > 0
    bank = sorted({text for text, kept in zip(texts, has_tokens, strict=True) if kept} - set(asked))
    bank = [bank[i] for i in rng.permutation(len(bank))[:count]]
    return _battles(embedder.embed(bank), embedder.embed(asked)), asked, found.source


def _battles(embeddings: NDArray[np.float32], queries: NDArray[np.float32]) -> RankingTask:
    model_a, model_b, winner = (list(names) for names in sw_data.battles_for(embeddings, seed=_SEED))
    strong, weak = _best_and_median(model_a, model_b, winner)
    return RankingTask(embeddings, model_a, model_b, winner, queries, strong, weak)


def _best_and_median(model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str]) -> tuple[str, str]:
    """Name the model that wins the largest share of its battles and the one in the middle: they share no tier."""
    names, indices = np.unique([*model_a, *model_b], return_inverse=True)
    points = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
    won = np.array([points[name] for name in winner])
    wins = np.bincount(indices, weights=np.concatenate([won, 1 - won]))
    order = np.argsort(-wins / np.bincount(indices), kind="stable")
    return str(names[order[0]]), str(names[order[len(order) // 2]])


def _shuffled_words(count: int) -> list[str]:
    words = " ".join(example_prompts()).split()
    rng = np.random.default_rng(_SEED)
    return [" ".join(words[i] for i in rng.integers(len(words), size=12)) for _ in range(count)]


def in_precision(exact: SimilarityWeightedRouter, name: str) -> SimilarityWeightedRouter:
    """Return a router over the same bank in a precision of names.SW_NAMES."""
    precision, _, axes = name.partition(", ")
    if precision == "float32":
        return exact
    return exact.with_precision(precision, pca_dim=min(int(axes.split()[0]), exact.dim) if axes else None)


def describe(router: SimilarityWeightedRouter) -> dict[str, Any]:
    """Return what a report says of a router."""
    return {
        "battles": router.battle_count,
        "rows": router.row_count,
        "dim": router.dim,
        "precision": router.precision,
        "error_bound": router.error_bound,
    }
