"""How much is measured: all of it, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    prompts: int | None
    rounds: int
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    embeddings: int
    routellm_rows: int
    interpreters: int
    battles: int
    queries: int
    queries_in_turn: int
    queries_of_routellm: int
    batch: int
    battle_counts: tuple[int, ...]
    prompts_of_battles: int


FULL: Final = Effort(
    prompts=None,
    rounds=11,
    lengths=(16, 64, 256, 1_000, 4_000, 16_000, 1_000_000, 10_000_000),
    batch_sizes=(1, 4, 16, 64, 256, 1024),
    embeddings=10_000,
    routellm_rows=200,
    interpreters=11,
    battles=65_000,
    queries=1_000,
    queries_in_turn=96,
    queries_of_routellm=8,
    batch=256,
    battle_counts=(10_000, 65_000, 160_000, 1_000_000),
    prompts_of_battles=1_000,
)
QUICK: Final = Effort(
    prompts=128,
    rounds=2,
    lengths=(16, 1_000, 1_000_000),
    batch_sizes=(1, 64),
    embeddings=1_000,
    routellm_rows=20,
    interpreters=2,
    battles=2_000,
    queries=32,
    queries_in_turn=8,
    queries_of_routellm=2,
    batch=32,
    battle_counts=(1_000, 2_000),
    prompts_of_battles=64,
)
