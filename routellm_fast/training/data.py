"""From files to battles: who answered which prompt better.

Two layouts are read, as CSV or JSON lines, plain or gzipped, UTF-8:

* **battles**: `model_a`, `model_b`, `winner` (`model_a`, `model_b` or `tie`), and `prompt` or `prompt_id`.
* **golden labels**: one row a prompt and one column a model with its score, a finite number, True, False or empty (not
  run). The prompt is `prompt`, `prompt_id`, or `question` with `options_json` (a JSON list): such a question is laid
  out as MMLU is asked, with lettered options and "Answer:".

`prompt_id` is looked up in a prompts file: `prompt_id`, `prompt`, and optionally `prompt_group`. In all layouts these
columns are known and optional: `license` (rows can be filtered by it), `prompt_group` (prompts that must not be
split), `source` or `task` or `eval_name` (a data set within the file, counted on its own).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast._tables import Row, read_table
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training.names import known_aliases
from routellm_fast.training.split import group_of

_OUTCOMES: Final = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5}
_SOURCE_COLUMNS: Final = ("source", "task", "eval_name")
# Columns of a golden-label table that hold no model's score.
_AUXILIARY: Final = frozenset(
    {
        *("prompt", "prompt_id", "prompt_group", "question", "options_json", "answer", "license", "judge"),
        *("sample_id", "question_id", "category", "src"),
        *_SOURCE_COLUMNS,
    }
)
_AUXILIARY_SUFFIX: Final = "|total_cost"

Prompts = Mapping[str, tuple[str, str]]


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


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row of a golden-label table: a prompt and every model's score on it."""

    prompt: str
    group: str
    source: str
    scores: Mapping[str, float]


def read_prompts(path: Path) -> Prompts:
    """Read a prompts file: prompt_id -> (prompt, group). Raises DataError."""
    prompts: dict[str, tuple[str, str]] = {}
    for row in read_table(path):
        key, prompt = row.text("prompt_id"), row.text("prompt")
        if key in prompts:
            problem = f"prompt_id {key!r} appears twice"
            raise row.error(problem)
        prompts[key] = (prompt, _group(row, prompt))
    return prompts


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
    for row in _licensed(path, licenses):
        winner = row.text("winner")
        if winner not in _OUTCOMES:
            problem = f"winner must be one of {', '.join(_OUTCOMES)}, found {winner!r}"
            raise row.error(problem)
        prompt, group = _prompt(row, prompts)
        model_a, model_b = (aliases.get(name, name) for name in (row.text("model_a"), row.text("model_b")))
        if not model_a or not model_b:
            problem = "model_a and model_b must be names"
            raise row.error(problem)
        if model_a == model_b or (drop_ties and winner == "tie"):
            continue
        battles.append(Battle(prompt, group, model_a, model_b, _OUTCOMES[winner], _source(row, path)))
    return battles if cap_per_prompt is None else _capped(battles, cap_per_prompt, seed)


def read_golden(
    path: Path, *, prompts: Prompts | None = None, licenses: Collection[str] | None = None
) -> list[Labelled]:
    """Read golden labels. See read_battles for the arguments; rows on which no model ran are left out.

    Raises:
        DataError: A row breaks the layout; the text names file and line.
    """
    aliases = known_aliases()
    labelled: list[Labelled] = []
    for row in _licensed(path, licenses):
        prompt, group = _prompt(row, prompts)
        scores: dict[str, float] = {}
        for column in row.values:
            if column in _AUXILIARY or column.endswith(_AUXILIARY_SUFFIX):
                continue
            score = row.number(column)
            if score is None:
                continue
            model = aliases.get(column, column)
            if model in scores:
                problem = f"two columns hold scores of {model!r}"
                raise row.error(problem)
            scores[model] = score
        if scores:
            labelled.append(Labelled(prompt, group, _source(row, path), scores))
    if not labelled:
        message = f"{path} has no column with scores of a model"
        raise DataError(message)
    return labelled


def pairs(
    labelled: Iterable[Labelled],
    *,
    drop_ties: bool = False,
    cap_per_prompt: int | None = 8,
    seed: int = 0,
    always: ModelPair | None = None,
) -> list[Battle]:
    """Return battles between the models of golden-label tables: the higher score wins.

    Ties count as half a win for each unless dropped. They hold what a router needs to know: of two models that answer
    right with odds a(model) / difficulty(prompt), the one that wins a decided battle does so with odds a / a',
    whatever the prompt (Rasch). Without ties, right-or-wrong labels say nothing about which prompts are hard.

    Args:
        labelled: The rows.
        drop_ties: Leave ties out, as RouteLLM does with battles.
        cap_per_prompt: At most this many pairs a prompt, chosen by seed; None takes all.
        seed: See cap_per_prompt.
        always: This pair's battles are kept whatever the cap.
    """
    battles = [
        Battle(row.prompt, row.group, a, b, _outcome(row.scores[a], row.scores[b]), row.source)
        for row in labelled
        for a, b in itertools.combinations(sorted(row.scores), 2)
        if not drop_ties or row.scores[a] != row.scores[b]
    ]
    if cap_per_prompt is None:
        return battles
    kept = [battle for battle in battles if always and {battle.model_a, battle.model_b} == set(always)]
    rest = [battle for battle in battles if not always or {battle.model_a, battle.model_b} != set(always)]
    return [*kept, *_capped(rest, cap_per_prompt, seed)]


def gaps(labelled: Iterable[Labelled], pair: ModelPair, *, score_range: float = 1.0) -> list[Battle]:
    """Return one battle of the pair a prompt, whose target says by how much the strong model scored better.

    Args:
        labelled: The rows; those without a score of both models are left out.
        pair: The strong and the weak model.
        score_range: The largest difference of two scores; it makes a whole win, no difference half a one.
    """
    return [
        Battle(
            row.prompt,
            row.group,
            pair.strong,
            pair.weak,
            min(1.0, max(0.0, 0.5 + (row.scores[pair.strong] - row.scores[pair.weak]) / (2.0 * score_range))),
            row.source,
        )
        for row in labelled
        if pair.strong in row.scores and pair.weak in row.scores
    ]


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


def file_digest(path: Path) -> str:
    """Return "sha256:<hex>" of a file, for the record. Raises DataError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        message = f"{path} cannot be read ({error})"
        raise DataError(message) from error
    return f"sha256:{digest.hexdigest()}"


def _index(names: Iterable[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(sorted(set(names)))}


def _outcome(a: float, b: float) -> float:
    return 1.0 if a > b else 0.0 if a < b else 0.5


def _capped(battles: Sequence[Battle], cap: int, seed: int) -> list[Battle]:
    """At most `cap` battles for each prompt of a source, by a hash of the battle, so that the choice is stable."""
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


def _draw(members: Sequence[Battle], seed: int) -> Callable[[int], bytes]:
    def key(index: int) -> bytes:
        battle = members[index]
        identity = json.dumps([seed, battle.prompt, battle.model_a, battle.model_b, battle.target, index])
        return hashlib.blake2b(identity.encode(), digest_size=8).digest()

    return key


def _licensed(path: Path, licenses: Collection[str] | None) -> Iterable[Row]:
    kept = False
    for row in read_table(path):
        if licenses is None or row.text("license") in licenses:
            kept = True
            yield row
    if not kept:
        message = f"{path} has no row of license {', '.join(sorted(licenses or ()))}"
        raise DataError(message)


def _source(row: Row, path: Path) -> str:
    stem = path.name.split(".")[0]
    part = next((row.values[column] for column in _SOURCE_COLUMNS if row.values.get(column)), None)
    return stem if part is None else f"{stem}/{part}"


def _group(row: Row, prompt: str) -> str:
    return row.text("prompt_group") if row.values.get("prompt_group") else group_of(prompt)


def _prompt(row: Row, prompts: Prompts | None) -> tuple[str, str]:
    if "prompt" in row.values:
        prompt = row.text("prompt")
        return prompt, _group(row, prompt)
    if "prompt_id" in row.values:
        key = row.text("prompt_id")
        if prompts is None:
            problem = "there is a prompt_id but no prompt: give the prompts file that it refers to"
            raise row.error(problem)
        if key not in prompts:
            problem = f"prompt_id {key!r} is not in the prompts file"
            raise row.error(problem)
        return prompts[key]
    if "question" in row.values:
        prompt = _multiple_choice(row)
        return prompt, _group(row, prompt)
    problem = f"expected a column prompt, prompt_id or question, found {', '.join(map(repr, row.values))}"
    raise row.error(problem)


def _multiple_choice(row: Row) -> str:
    options = row.values.get("options_json")
    if not options:
        return row.text("question")
    try:
        parsed = json.loads(options) if isinstance(options, str) else options
    except ValueError:
        parsed = None
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if not isinstance(parsed, list) or not 0 < len(parsed) <= len(letters):
        problem = f"options_json must be a JSON list of at most {len(letters)} options, found {options!r}"
        raise row.error(problem)
    lines = [f"{letter}. {option}" for letter, option in zip(letters, parsed, strict=False)]
    return "\n".join([row.text("question"), *lines, "Answer:"])
