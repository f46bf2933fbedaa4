"""Battles: which of two models answered a prompt better.

A file of battles is CSV or JSON lines, plain or gzipped, UTF-8: `model_a`, `model_b`, `winner` (`model_a`, `model_b` or
`tie`), and the prompt as `routellm_fast.data.prompts` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import Prompts, licensed_rows, prompt_of, source_of
from routellm_fast.errors import DataError, InvalidArgumentError

_OUTCOMES: Final = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}


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


@dataclass(frozen=True, slots=True)
class Battle:
    """One battle, before it becomes part of the arrays. See Battles."""

    prompt: str
    group: str
    model_a: str
    model_b: str
    target: float
    source: str
    weight: float = 1.0


def read_battles(
    path: Path,
    *,
    prompts: Prompts | None = None,
    licenses: Collection[str] | None = None,
    drop_ties: bool = True,
    cap_per_prompt: int | None = None,
    seed: int = 0,
) -> list[Battle]:
    """Read preference battles.

    Args:
        path: The file; its layout is in the module's text.
        prompts: What prompt_id refers to.
        licenses: Only rows whose license is one of these; None takes all.
        drop_ties: Leave ties out, as RouteLLM does; else a tie is half a win for each.
        cap_per_prompt: At most this many battles a prompt, chosen by seed, so that much-voted prompts do not drown
            the others.
        seed: See cap_per_prompt.

    Raises:
        DataError: A row breaks the layout; the text names file and line.
    """
    aliases = known_aliases()
    battles: list[Battle] = []
    for row in licensed_rows(path, licenses):
        winner = row.text("winner")
        if winner not in _OUTCOMES:
            problem = f"winner must be one of {', '.join(_OUTCOMES)}, found {winner!r}"
            raise row.error(problem)
        prompt, group = prompt_of(row, prompts)
        model_a, model_b = (aliases.get(name, name) for name in (row.text("model_a"), row.text("model_b")))
        if not model_a or not model_b:
            problem = "model_a and model_b must be names"
            raise row.error(problem)
        if model_a == model_b or (drop_ties and winner == "tie"):
            continue
        battles.append(Battle(prompt, group, model_a, model_b, _OUTCOMES[winner], source_of(row, path)))
    return battles if cap_per_prompt is None else capped(battles, cap_per_prompt, seed)


def balanced(battles: Sequence[Battle], total: float) -> list[Battle]:
    """Reweigh so that every source weighs the same, and all together `total`: no source drowns the others."""
    counts: dict[str, float] = {}
    for battle in battles:
        counts[battle.source] = counts.get(battle.source, 0.0) + battle.weight
    share = total / max(len(counts), 1)
    return [replace(battle, weight=battle.weight * share / counts[battle.source]) for battle in battles]


def to_arrays(battles: Iterable[Battle]) -> Battles:
    """Return battles as arrays, in an order that does not depend on that of the files. Raises DataError for none."""
    ordered = sorted(battles, key=lambda b: (b.source, b.prompt, b.model_a, b.model_b, b.target, b.weight))
    if not ordered:
        message = "there is no battle to train on: all rows were ties, or of other licenses"
        raise DataError(message)
    if any(not 0.0 <= battle.target <= 1.0 or not battle.weight > 0.0 for battle in ordered):
        message = "targets lie in [0, 1] and weights are above 0"
        raise InvalidArgumentError(message)
    groups: dict[str, str] = {}
    for battle in ordered:
        # One prompt in two files has one group, whichever file names it.
        groups[battle.prompt] = min(battle.group, groups.get(battle.prompt, battle.group))
    prompts = _index(groups)
    models = _index(name for battle in ordered for name in (battle.model_a, battle.model_b))
    sources = _index(battle.source for battle in ordered)

    def column(key: Callable[[Battle], int]) -> NDArray[np.int64]:
        return np.array([key(battle) for battle in ordered], dtype=np.int64)

    weight = np.array([battle.weight for battle in ordered], dtype=np.float64)
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
        weight=(weight / weight.mean()).astype(np.float32),
    )


def capped(battles: Sequence[Battle], cap: int, seed: int) -> list[Battle]:
    """Return at most `cap` battles for each prompt of a source, by a hash of the battle: a stable choice."""
    if cap < 1:
        message = f"a cap is at least 1, found {cap}"
        raise InvalidArgumentError(message)
    by_prompt: dict[tuple[str, str], list[Battle]] = {}
    for battle in battles:
        by_prompt.setdefault((battle.source, battle.prompt), []).append(battle)
    chosen: list[Battle] = []
    for members in by_prompt.values():
        order = range(len(members)) if len(members) <= cap else sorted(range(len(members)), key=_draw(members, seed))
        chosen.extend(members[index] for index in order[:cap])
    return chosen


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(sorted(set(names)))}


def _draw(members: Sequence[Battle], seed: int) -> Callable[[int], bytes]:
    def key(index: int) -> bytes:
        battle = members[index]
        identity = json.dumps([seed, battle.prompt, battle.model_a, battle.model_b, battle.target, index])
        return hashlib.blake2b(identity.encode(), digest_size=8).digest()

    return key
