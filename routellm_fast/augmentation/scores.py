"""How two scores become a winner and a weight."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from routellm_fast.augmentation.battle_rows import BattleRow
from routellm_fast.data import Battle, capped
from routellm_fast.errors import InvalidArgumentError

WEIGHTS: Final = ("equal", "difference")
TIES: Final = ("keep", "drop")


@dataclass(frozen=True, slots=True)
class ScoreRules:
    """How scores become battles.

    Attributes:
        margin: Scores that differ by less than this are a tie, >= 0; equal scores always are.
        ties: Whether to "keep" or "drop" ties.
        weights: "equal": every battle weighs 1. "difference": a win weighs |a - b| / range and a tie
            1 - |a - b| / range, range being that of the data set's scores: a narrow win says little, a clear one much.
        cap_per_prompt: The most battles to keep of each prompt of a source; None keeps all.
        seed: Draws which battles the cap keeps.
    """

    margin: float = 0.0
    ties: str = "keep"
    weights: str = "equal"
    cap_per_prompt: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin < math.inf:
            raise InvalidArgumentError(f"margin must be at least 0 and finite, found {self.margin}")
        if self.ties not in TIES:
            raise InvalidArgumentError(f"ties must be one of {', '.join(TIES)}, found {self.ties!r}")
        if self.weights not in WEIGHTS:
            raise InvalidArgumentError(f"weights must be one of {', '.join(WEIGHTS)}, found {self.weights!r}")
        if self.cap_per_prompt is not None and self.cap_per_prompt < 1:
            raise InvalidArgumentError(f"a cap is at least 1, found {self.cap_per_prompt}")

    def decide(self, a: float, b: float, score_range: float) -> tuple[str, float] | None:
        """Return winner and weight, or None for a battle to leave out: a dropped tie, or one that weighs nothing."""
        difference = abs(a - b)
        is_tie = difference == 0.0 or difference < self.margin
        if is_tie and self.ties == "drop":
            return None
        winner = "tie" if is_tie else "model_a" if a > b else "model_b"
        if self.weights == "equal":
            return winner, 1.0
        share = min(1.0, difference / score_range) if score_range > 0.0 else 0.0
        weight = 1.0 - share if is_tie else share
        return (winner, weight) if weight > 0.0 else None

    def cap(self, rows: Iterable[BattleRow]) -> list[BattleRow]:
        """Keep at most cap_per_prompt rows a prompt of a source, whatever the order of the rows."""
        if self.cap_per_prompt is None:
            return list(rows)
        targets = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
        by_battle: dict[Battle, list[BattleRow]] = {}
        for row in rows:
            battle = Battle(
                row.prompt, row.group, row.model_a, row.model_b, targets[row.winner], row.source, row.weight
            )
            by_battle.setdefault(battle, []).append(row)
        ordered = sorted(by_battle, key=lambda b: (b.source, b.prompt, b.model_a, b.model_b, b.target, b.weight))
        battles = [battle for battle in ordered for _ in by_battle[battle]]
        return [by_battle[battle].pop() for battle in capped(battles, self.cap_per_prompt, self.seed)]
