"""Battles: which of two models answered a prompt better.

A source of battles (see `routellm_fast.data.sources`) has the columns

* `model_a`, `model_b`: names of models; other spellings in `model_names.csv` are replaced by one name;
* `winner`: `model_a`, `model_b` or `tie`; the Arena's `tie (bothbad)`, `bothbad` and `both_bad` are ties too. Instead
  of `winner` there may be `winner_model_a` and `winner_model_b`, 0 or 1 each, and `winner_tie`: where both are 0 the
  battle is a tie;
* the prompt, in a column that `routellm_fast.data.prompts` lists;
* optionally `judge`: who decided the battle.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.data.counts import UNREADABLE, Counts
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import WON_COLUMNS, Prompts, licensed_rows, prompt_of, source_of, weight_of
from routellm_fast.data.split import joined_groups
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.tables import LeftOut, Row, usable

_TIES: Final = ("tie", "tie (bothbad)", "bothbad", "both_bad")
_TIE_COLUMN: Final = "winner_tie"
_OUTCOMES: Final = {"model_a": 1.0, "model_b": 0.0} | dict.fromkeys(_TIES, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Battles:
    """n battles as arrays, which refer to u prompts, m models and s sources by index.

    Attributes:
        prompts: u distinct prompts.
        groups: u names: the group of each prompt. Prompts of one group are held out together.
        models: m model names.
        sources: s data set names.
        prompt: (n,) int64 index into prompts.
        model_a: (n,) int64 index into models.
        model_b: (n,) int64 index into models.
        target: (n,) float32 in [0, 1]: model_a's share of the win; 0.5 for a tie.
        source: (n,) int64 index into sources.
        weight: (n,) float32, > 0.
    """

    prompts: tuple[str, ...]
    groups: tuple[str, ...]
    models: tuple[str, ...]
    sources: tuple[str, ...]
    prompt: NDArray[np.int64]
    model_a: NDArray[np.int64]
    model_b: NDArray[np.int64]
    target: NDArray[np.float32]
    source: NDArray[np.int64]
    weight: NDArray[np.float32]

    __repr__ = brief_repr

    def __len__(self) -> int:
        """Return the number of battles."""
        return len(self.target)

    def select(self, members: NDArray[np.bool_]) -> Battles:
        """Return the battles that a mask of shape (n,) marks; prompts, models and sources keep their indices."""
        columns = ("prompt", "model_a", "model_b", "target", "source", "weight")
        return replace(self, **{name: getattr(self, name)[members] for name in columns})

    def of_prompts(self, kept: NDArray[np.bool_]) -> Battles:
        """Return the battles on the prompts that a mask of shape (u,) marks, without the other prompts."""
        battles = self.select(kept[self.prompt])
        prompts, groups = (
            tuple(name for name, is_kept in zip(names, kept.tolist(), strict=True) if is_kept)
            for names in (self.prompts, self.groups)
        )
        return replace(battles, prompts=prompts, groups=groups, prompt=(np.cumsum(kept) - 1)[battles.prompt])

    def of_pair(self, pair: ModelPair) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which battles are between these two models, and the strong model's share of the win in each.

        Both arrays have shape (n,). The share is NaN in battles between other models.
        """
        index = {name: number for number, name in enumerate(self.models)}
        strong, weak = (index.get(name, -1) for name in pair)
        target = self.target.astype(np.float64)
        share = np.where((self.model_a == strong) & (self.model_b == weak), target, np.nan)
        share = np.where((self.model_a == weak) & (self.model_b == strong), 1.0 - target, share)
        return np.isfinite(share), share


@dataclass(frozen=True, slots=True)
class Battle:
    """One battle, as readers return it. See Battles for the fields; `judge` says who decided it, "" where unknown."""

    prompt: str
    group: str
    model_a: str
    model_b: str
    target: float
    source: str
    weight: float = 1.0
    judge: str = ""


def read_battles(
    path: Path,
    *,
    prompts: Prompts | None = None,
    licenses: Collection[str] | None = None,
    drop_ties: bool = True,
    cap_per_prompt: int | None = None,
    seed: int = 0,
    min_prompt_chars: int = 0,
    apart: ModelPair | None = None,
    counts: Counts | None = None,
    left_out: LeftOut | None = None,
) -> list[Battle]:
    """Read preference battles from a table. Battles of a model against itself are left out.

    Args:
        path: The source; the text of this module describes its columns.
        prompts: Where the prompt_id of a row is looked up, as `read_prompts` returns it.
        licenses: Only rows whose license is one of these are used; None uses all rows.
        drop_ties: Leave ties out, as RouteLLM does; otherwise a tie is half a win for each model.
        cap_per_prompt: The most battles of one prompt, so that a prompt with many votes does not outweigh the others;
            None keeps all.
        seed: Decides which battles stay where a prompt has more than cap_per_prompt.
        min_prompt_chars: Leave out battles whose prompt, without surrounding space, has fewer characters.
        apart: Battles between these two models are capped apart from all others, so that those of other models do not
            take their places.
        counts: Filled with the numbers of rows read, battles kept and battles left out.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        DataError: A row breaks the layout and left_out does not take it, or all rows do; the text names file and line.
        MissingExtraError: The source needs an optional library that is not installed.
    """
    counts = Counts() if counts is None else counts
    aliases = known_aliases()
    battles: list[Battle] = []
    refused = 0 if left_out is None else left_out.rows

    def read(row: Row) -> Battle:
        target = target_of(row)
        prompt, group = prompt_of(row, prompts)
        model_a, model_b = (aliases.get(name, name) for name in (row.text("model_a"), row.text("model_b")))
        if not model_a or not model_b:
            raise row.error("model_a and model_b must be names")
        judge = str(row.values.get("judge") or "")
        return Battle(prompt, group, model_a, model_b, target, source_of(row, path), weight_of(row), judge)

    for battle in usable(licensed_rows(path, licenses, counts, left_out=left_out), read, left_out):
        if battle.model_a == battle.model_b:
            counts.leave_out("of a model against itself")
        elif drop_ties and battle.target == 0.5:
            counts.leave_out("tie")
        elif not battle.prompt.strip():
            counts.leave_out("on an empty prompt")
        elif len(battle.prompt.strip()) < min_prompt_chars:
            counts.leave_out("on a short prompt")
        else:
            counts.judges.update([battle.judge] if battle.judge else [])
            battles.append(battle)
    counts.leave_out(UNREADABLE, (left_out.rows if left_out is not None else 0) - refused)
    kept = battles
    if cap_per_prompt is not None:
        own = [battle for battle in battles if {battle.model_a, battle.model_b} == set(apart or ())]
        rest = [battle for battle in battles if {battle.model_a, battle.model_b} != set(apart or ())]
        kept = [*capped(own, cap_per_prompt, seed), *capped(rest, cap_per_prompt, seed)]
    counts.leave_out("beyond the cap", len(battles) - len(kept))
    counts.battles += len(kept)
    return kept


def models_of(battles: Iterable[Battle]) -> set[str]:
    """Return the names of all models in the battles."""
    return {name for battle in battles for name in (battle.model_a, battle.model_b)}


def balanced(battles: Sequence[Battle], total: float) -> list[Battle]:
    """Return the battles with new weights: every source has the same sum of weights, and all together have `total`."""
    counts: dict[str, float] = {}
    for battle in battles:
        counts[battle.source] = counts.get(battle.source, 0.0) + battle.weight
    share = total / max(len(counts), 1)
    return [replace(battle, weight=battle.weight * share / counts[battle.source]) for battle in battles]


def to_arrays(battles: Iterable[Battle], *, keep_order: bool = False) -> Battles:
    """Return battles as arrays.

    Args:
        battles: At least one.
        keep_order: Keep the battles in the order given, and the prompts in the order of their first battle. Otherwise
            both are sorted, so that the result does not depend on the order of the files.

    Raises:
        DataError: There is no battle.
        InvalidArgumentError: A target is outside [0, 1], a weight is not finite and above 0, or weights differ by more
            than float32 can hold.
    """
    ordered = list(battles)
    if not keep_order:
        ordered.sort(key=lambda b: (b.source, b.prompt, b.model_a, b.model_b, b.target, b.weight))
    if not ordered:
        raise DataError("there is no battle to train on: all rows were ties, or of other licenses")
    wrong = next((b for b in ordered if not 0.0 <= b.target <= 1.0 or not 0.0 < b.weight < math.inf), None)
    if wrong is not None:
        raise InvalidArgumentError(
            f"a target must lie in [0, 1] and a weight be finite and above 0, found {wrong.target} and {wrong.weight}"
        )
    groups = joined_groups((battle.prompt, battle.group) for battle in ordered)
    prompts = {prompt: index for index, prompt in enumerate(groups)} if keep_order else _index(groups)
    models = _index(name for battle in ordered for name in (battle.model_a, battle.model_b))
    sources = _index(battle.source for battle in ordered)

    def column(key: Callable[[Battle], int]) -> NDArray[np.int64]:
        return np.array([key(battle) for battle in ordered], dtype=np.int64)

    weight = np.array([battle.weight for battle in ordered], dtype=np.float64)
    weight = (weight / weight.mean()).astype(np.float32)
    if not weight.all():
        raise InvalidArgumentError(
            "weights are too far apart: in float32 the smallest become 0 once their mean is scaled to 1"
        )
    return Battles(
        prompts=tuple(prompts),
        groups=tuple(groups[prompt] for prompt in prompts),
        models=tuple(models),
        sources=tuple(sources),
        prompt=column(lambda battle: prompts[battle.prompt]),
        model_a=column(lambda battle: models[battle.model_a]),
        model_b=column(lambda battle: models[battle.model_b]),
        target=np.array([battle.target for battle in ordered], dtype=np.float32),
        source=column(lambda battle: sources[battle.source]),
        weight=weight,
    )


def capped(battles: Sequence[Battle], cap: int, seed: int) -> list[Battle]:
    """Return at most `cap` battles for each prompt of a source.

    A hash of the seed and the battle decides which stay: other prompts do not change the choice. Raises
    InvalidArgumentError where the cap is below 1.
    """
    if cap < 1:
        raise InvalidArgumentError(f"cap_per_prompt must be at least 1, found {cap}")
    by_prompt: dict[tuple[str, str], list[Battle]] = {}
    for battle in battles:
        by_prompt.setdefault((battle.source, battle.prompt), []).append(battle)
    chosen: list[Battle] = []
    for members in by_prompt.values():
        order = range(len(members)) if len(members) <= cap else sorted(range(len(members)), key=_draw(members, seed))
        chosen.extend(members[index] for index in order[:cap])
    return chosen


def target_of(row: Row) -> float:
    """Return the share of the win that model_a has in a row: 1, 0.5 or 0. Raises DataError where no column says it."""
    if "winner" not in row.values and WON_COLUMNS[0] in row.values:
        a_won, b_won = (_flag(row, column) for column in WON_COLUMNS)
        is_tie = not (a_won or b_won) if row.is_empty(_TIE_COLUMN) else _flag(row, _TIE_COLUMN)
        if a_won + b_won + is_tie != 1:
            raise row.error(
                f"one of {', '.join(WON_COLUMNS)} and {_TIE_COLUMN} must be 1, found {a_won + b_won + is_tie}"
            )
        return 1.0 if a_won else 0.0 if b_won else 0.5
    winner = row.text("winner")
    outcome = _OUTCOMES.get(winner.strip().lower())
    if outcome is None:
        raise row.error(f"winner must be one of {', '.join(_OUTCOMES)}, found {winner!r}")
    return outcome


def _flag(row: Row, column: str) -> bool:
    number = row.number(column)
    if number not in (0.0, 1.0):
        raise row.error(f"{column!r} must be 0 or 1, found {row.values.get(column)!r}")
    return bool(number)


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(sorted(set(names)))}


def _draw(members: Sequence[Battle], seed: int) -> Callable[[int], bytes]:
    def key(index: int) -> bytes:
        battle = members[index]
        identity = json.dumps([seed, battle.prompt, battle.model_a, battle.model_b, battle.target, index])
        return hashlib.blake2b(identity.encode(), digest_size=8).digest()

    return key
