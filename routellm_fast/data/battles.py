"""Battles: which of two models answered a prompt better.

A source of battles (see `routellm_fast.data.sources`) has the columns

* `model_a`, `model_b`: names, of some of which `model_names.csv` knows other spellings;
* `winner`: `model_a`, `model_b` or `tie`; the Arena's `tie (bothbad)`, `bothbad` and `both_bad` are ties too. In its
  place, `winner_model_a` and `winner_model_b`, 0 or 1 each: where neither won it is a tie;
* the prompt, as `routellm_fast.data.prompts` says;
* optionally `judge`: who said so.
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

from routellm_fast.data.counts import Counts
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import WON_COLUMNS, Prompts, licensed_rows, prompt_of, source_of, weight_of
from routellm_fast.data.split import joined_groups
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.tables import Row

_TIES: Final = ("tie", "tie (bothbad)", "bothbad", "both_bad")
_OUTCOMES: Final = {"model_a": 1.0, "model_b": 0.0} | dict.fromkeys(_TIES, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Battles:
    """Battles as arrays.

    Attributes:
        prompts: u distinct prompts.
        groups: u group names; a group is held out as a whole.
        models: m model names.
        sources: s data set names.
        prompt: (n,) int64 index into prompts.
        model_a: (n,) int64 index into models.
        model_b: (n,) int64 index into models.
        target: (n,) float32 in [0, 1]: share of wins of model_a, a tie counting one half.
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

    def __len__(self) -> int:
        """Return the number of battles."""
        return len(self.target)

    def select(self, members: NDArray[np.bool_]) -> Battles:
        """Return some of the battles, (n,) marked; prompts, models and sources keep their indices."""
        columns = ("prompt", "model_a", "model_b", "target", "source", "weight")
        return replace(self, **{name: getattr(self, name)[members] for name in columns})

    def of_prompts(self, kept: NDArray[np.bool_]) -> Battles:
        """Return the battles on some of the prompts, (u,) marked. The other prompts go, and indices follow."""
        battles = self.select(kept[self.prompt])
        prompts, groups = (
            tuple(name for name, is_kept in zip(names, kept.tolist(), strict=True) if is_kept)
            for names in (self.prompts, self.groups)
        )
        return replace(battles, prompts=prompts, groups=groups, prompt=(np.cumsum(kept) - 1)[battles.prompt])

    def of_pair(self, pair: ModelPair) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which battles are of this pair, (n,), and in these the strong model's share of the win, (n,).

        The share of other battles is NaN.
        """
        index = {name: number for number, name in enumerate(self.models)}
        strong, weak = (index.get(name, -1) for name in pair)
        target = self.target.astype(np.float64)
        share = np.where((self.model_a == strong) & (self.model_b == weak), target, np.nan)
        share = np.where((self.model_a == weak) & (self.model_b == strong), 1.0 - target, share)
        return np.isfinite(share), share


@dataclass(frozen=True, slots=True)
class Battle:
    """One battle, before it becomes part of the arrays. See Battles; `judge` is for the record."""

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
    counts: Counts | None = None,
) -> list[Battle]:
    """Read preference battles. Those of a model against itself are left out.

    Args:
        path: The source; its layout is in the module's text.
        prompts: What prompt_id refers to.
        licenses: Only rows whose license is one of these; None takes all.
        drop_ties: Leave ties out, as RouteLLM does; else a tie is half a win for each.
        cap_per_prompt: At most this many battles a prompt, chosen by seed, so that much-voted prompts do not drown
            the others.
        seed: See cap_per_prompt.
        min_prompt_chars: Leave out battles on shorter prompts, space around them not counted.
        counts: Filled with what was read, kept and left out.

    Raises:
        DataError: A row breaks the layout; the text names file and line.
        MissingExtraError: The source needs an optional library that is not installed.
    """
    counts = Counts() if counts is None else counts
    aliases = known_aliases()
    battles: list[Battle] = []
    for row in licensed_rows(path, licenses, counts):
        target = _target(row)
        prompt, group = prompt_of(row, prompts)
        model_a, model_b = (aliases.get(name, name) for name in (row.text("model_a"), row.text("model_b")))
        if not model_a or not model_b:
            raise row.error("model_a and model_b must be names")
        weight, judge = weight_of(row), str(row.values.get("judge") or "")
        if model_a == model_b:
            counts.leave_out("of a model against itself")
        elif drop_ties and target == 0.5:
            counts.leave_out("tie")
        elif len(prompt.strip()) < min_prompt_chars:
            counts.leave_out("on a short prompt")
        else:
            counts.judges.update([judge] if judge else [])
            battles.append(Battle(prompt, group, model_a, model_b, target, source_of(row, path), weight, judge))
    kept = battles if cap_per_prompt is None else capped(battles, cap_per_prompt, seed)
    counts.leave_out("beyond the cap", len(battles) - len(kept))
    counts.battles += len(kept)
    return kept


def models_of(battles: Iterable[Battle]) -> set[str]:
    """Return the names of all models that the battles are between."""
    return {name for battle in battles for name in (battle.model_a, battle.model_b)}


def balanced(battles: Sequence[Battle], total: float) -> list[Battle]:
    """Reweigh so that every source weighs the same, and all together `total`: no source drowns the others."""
    counts: dict[str, float] = {}
    for battle in battles:
        counts[battle.source] = counts.get(battle.source, 0.0) + battle.weight
    share = total / max(len(counts), 1)
    return [replace(battle, weight=battle.weight * share / counts[battle.source]) for battle in battles]


def to_arrays(battles: Iterable[Battle], *, keep_order: bool = False) -> Battles:
    """Return battles as arrays.

    Args:
        battles: At least one.
        keep_order: Keep battles, and prompts by their first battle, in the order given, for what depends on it. Else
            they are sorted, so that nothing depends on the order of the files.

    Raises:
        DataError: There is no battle.
        InvalidArgumentError: A target or weight is out of its range, or weights are too far apart.
    """
    ordered = list(battles)
    if not keep_order:
        ordered.sort(key=lambda b: (b.source, b.prompt, b.model_a, b.model_b, b.target, b.weight))
    if not ordered:
        raise DataError("there is no battle to train on: all rows were ties, or of other licenses")
    wrong = next((b for b in ordered if not 0.0 <= b.target <= 1.0 or not 0.0 < b.weight < math.inf), None)
    if wrong is not None:
        raise InvalidArgumentError(
            f"targets lie in [0, 1] and weights are finite and above 0, found {wrong.target} and {wrong.weight}"
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
        raise InvalidArgumentError("weights are too far apart: some are zero beside the others in float32")
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
    """Return at most `cap` battles for each prompt of a source, by a hash of the battle: a stable choice."""
    if cap < 1:
        raise InvalidArgumentError(f"a cap is at least 1, found {cap}")
    by_prompt: dict[tuple[str, str], list[Battle]] = {}
    for battle in battles:
        by_prompt.setdefault((battle.source, battle.prompt), []).append(battle)
    chosen: list[Battle] = []
    for members in by_prompt.values():
        order = range(len(members)) if len(members) <= cap else sorted(range(len(members)), key=_draw(members, seed))
        chosen.extend(members[index] for index in order[:cap])
    return chosen


def _target(row: Row) -> float:
    if "winner" not in row.values and WON_COLUMNS[0] in row.values:
        a_won, b_won = (_flag(row, column) for column in WON_COLUMNS)
        return 1.0 if a_won else 0.0 if b_won else 0.5
    winner = row.text("winner")
    if winner not in _OUTCOMES:
        raise row.error(f"winner must be one of {', '.join(_OUTCOMES)}, found {winner!r}")
    return _OUTCOMES[winner]


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
