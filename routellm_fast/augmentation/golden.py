"""Battles from golden labels: of two models, the one with the higher score on a prompt wins."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

from routellm_fast.arrays import brief_repr
from routellm_fast.augmentation.battle_rows import BattleCounts, BattleRow
from routellm_fast.augmentation.guard import tainted_groups
from routellm_fast.augmentation.scores import ScoreRules
from routellm_fast.data import Labelled
from routellm_fast.data.names import check_known
from routellm_fast.errors import DataError, InvalidArgumentError

GOLDEN_JUDGE: Final = "golden"


@dataclass(frozen=True, slots=True)
class GoldenBattles:
    """Battles, and what became of the rows they come from.

    Attributes:
        rows: The battles, in an order that does not depend on the cap.
        counts: How many there are, by model and source.
        forbidden_prompts: Number of distinct prompts that were left out, since they belong to a forbidden group.
        unpaired_prompts: Number of distinct prompts on which fewer than two of the chosen models have a score.
    """

    rows: tuple[BattleRow, ...]
    counts: BattleCounts
    forbidden_prompts: int
    unpaired_prompts: int

    __repr__ = brief_repr


def golden_battles(
    labelled: Sequence[Labelled],
    *,
    models: Sequence[str] | None = None,
    rules: ScoreRules | None = None,
    forbidden: Set[str] = frozenset(),
) -> GoldenBattles:
    """Make battles of golden labels.

    Args:
        labelled: The rows; data.read_golden reads them.
        models: Names of at least two models; battles of any other model are left out. None takes all models.
        rules: How scores become battles.
        forbidden: Names of prompt groups to leave out; guard.forbidden_groups reads them.

    Raises:
        UnknownModelError: A model has no score anywhere.
        DataError: Nothing is left.
    """
    rules = rules or ScoreRules()
    chosen = _chosen(labelled, models)
    ranges = _ranges(labelled)
    tainted = tainted_groups(((row.prompt, row.group) for row in labelled), forbidden)
    found: list[BattleRow] = []
    forbidden_prompts: set[str] = set()
    unpaired_prompts: set[str] = set()
    for row in labelled:
        if row.group in tainted:
            forbidden_prompts.add(row.prompt)
            continue
        names = sorted(name for name in row.scores if chosen is None or name in chosen)
        if len(names) < 2:
            unpaired_prompts.add(row.prompt)
        for a, b in itertools.combinations(names, 2):
            decided = rules.decide(row.scores[a], row.scores[b], ranges[row.source])
            if decided is not None:
                found.append(BattleRow(row.prompt, row.group, a, b, decided[0], row.source, decided[1], GOLDEN_JUDGE))
    rows = tuple(rules.cap(found))
    if not rows:
        raise DataError(_nothing_left(len(labelled), len(forbidden_prompts), len(unpaired_prompts)))
    return GoldenBattles(rows, BattleCounts.of(rows), len(forbidden_prompts), len(unpaired_prompts))


def _chosen(labelled: Iterable[Labelled], models: Sequence[str] | None) -> frozenset[str] | None:
    if models is None:
        return None
    if len(set(models)) < 2:
        raise InvalidArgumentError(f"battles need at least two models, found {', '.join(models) or 'none'}")
    check_known(models, {name for row in labelled for name in row.scores})
    return frozenset(models)


def _ranges(labelled: Iterable[Labelled]) -> dict[str, float]:
    """Highest less lowest score of each source: right-or-wrong labels and marks of 1 to 10 are not of one scale."""
    bounds: dict[str, tuple[float, float]] = {}
    for row in labelled:
        low, high = bounds.get(row.source, (float("inf"), float("-inf")))
        bounds[row.source] = (min(low, *row.scores.values()), max(high, *row.scores.values()))
    return {source: high - low for source, (low, high) in bounds.items()}


def _nothing_left(total: int, forbidden: int, unpaired: int) -> str:
    return (
        f"no battle is left of {total:,} rows: {forbidden:,} prompts are in the files that they must not be in, "
        f"{unpaired:,} have fewer than two scores, the others are ties that were dropped or weigh nothing"
    )
