"""How much is measured of sw_ranking: all of it, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Turns of every contender.
        battles: Battles of the router that peers stand beside.
        queries: Queries that all precisions answer.
        queries_in_turn: Of these, queries that all peers answer too.
        queries_of_routellm: Of these, queries that RouteLLM answers too.
        batch: Queries of one batch.
        battle_counts: Numbers of battles that costs are held against.
        prompts_of_battles: Prompts that are routed as text.
    """

    rounds: int
    battles: int
    queries: int
    queries_in_turn: int
    queries_of_routellm: int
    batch: int
    battle_counts: tuple[int, ...]
    prompts_of_battles: int


FULL: Final = Effort(
    rounds=11,
    battles=65_000,
    queries=1_000,
    queries_in_turn=96,
    queries_of_routellm=8,
    batch=256,
    battle_counts=(10_000, 65_000, 160_000, 1_000_000),
    prompts_of_battles=1_000,
)
QUICK: Final = Effort(
    rounds=2,
    battles=2_000,
    queries=32,
    queries_in_turn=8,
    queries_of_routellm=2,
    batch=32,
    battle_counts=(1_000, 2_000),
    prompts_of_battles=64,
)
