"""Tiny sw_ranking routers, made in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

from routellm_fast import Embedder
from routellm_fast.routers import SimilarityWeightedRouter
from tests.support.builders import PAIR, WORDS, static_embedder

MODELS = (*PAIR, "other-model", "spare-model")


def battle_texts(count: int) -> list[str]:
    """Prompts of known words; some stand twice."""
    words = [word for word in WORDS if word[0] not in "[#"]
    return [" ".join(words[(i * step) % len(words)] for step in range(1, 2 + i % 5)) for i in range(count)]


def battles(count: int) -> tuple[list[str], list[str], list[str]]:
    """model_a, model_b and winner: each two models meet, and each of them wins at times."""
    met = [(a, b) for a in MODELS for b in MODELS if a != b]
    a, b = zip(*islice(cycle(met), count), strict=True)
    outcomes = ("model_a", "model_b", "model_a", "tie", "model_b", "model_a", "model_b")
    return list(a), list(b), list(islice(cycle(outcomes), count))


def sw_router(
    precision: str = "float32",
    *,
    count: int = 60,
    added: Sequence[int] = (),
    embedder: Embedder | None = None,
    **options: Any,
) -> SimilarityWeightedRouter:
    """A router of `count` battles, to which blocks of so many are added one by one."""
    embedder = static_embedder() if embedder is None else embedder
    total = count + sum(added)
    vectors, (a, b, winner) = embedder.embed(battle_texts(total)), battles(total)
    options = {"strong_model": PAIR.strong, "weak_model": PAIR.weak, "num_tiers": 4, "embedder": embedder, **options}
    router = SimilarityWeightedRouter.build(
        vectors[:count], a[:count], b[:count], winner[:count], precision=precision, **options
    )
    for more in added:
        rows = slice(count, count + more)
        router = router.add_battles(vectors[rows], a[rows], b[rows], winner[rows])
        count += more
    return router
