"""Golden labels: the score of every model on a prompt, and battles made from such scores.

A source of golden labels (see `routellm_fast.data.sources`) has one row for each prompt and one column for each model.
A cell is the model's score: a finite number, True, False, or empty where the model was not run. The module
`routellm_fast.data.prompts` says which column holds the prompt.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routellm_fast.data.battles import Battle, capped
from routellm_fast.data.counts import Counts
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import SOURCE_COLUMNS, Prompts, licensed_rows, prompt_of, source_of, weight_of
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError

# Columns of a golden-label table that hold no model's score.
_AUXILIARY: Final = frozenset(
    {
        *("prompt", "prompt_id", "prompt_group", "question", "options_json", "answer", "license", "judge", "weight"),
        *("sample_id", "question_id", "category", "domain", "src"),
        *SOURCE_COLUMNS,
    }
)
# Ending of the columns that hold what an answer of a model cost, as RouterBench names them.
_COST_SUFFIX: Final = "|total_cost"


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row of a golden-label table: a prompt, the score of every model on it, and what the answers cost.

    Attributes:
        prompt: The text.
        group: Name of the prompt's group; prompts of one group are held out together.
        source: Name of the data set.
        scores: Score by model name; a model that was not run has no entry.
        costs: US dollars that the answer cost, by model name; a model without a cost in the table has no entry.
        weight: Weight of each battle that the row makes, > 0.
    """

    prompt: str
    group: str
    source: str
    scores: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0


def read_golden(
    path: Path,
    *,
    prompts: Prompts | None = None,
    licenses: Collection[str] | None = None,
    min_prompt_chars: int = 0,
    counts: Counts | None = None,
) -> list[Labelled]:
    """Read golden labels from a table. Rows on which no model ran are left out. See read_battles for the arguments.

    Raises:
        DataError: A row breaks the layout; the text names file and line.
    """
    counts = Counts() if counts is None else counts
    aliases = known_aliases()
    labelled: list[Labelled] = []
    found = False
    for row in licensed_rows(path, licenses, counts):
        prompt, group = prompt_of(row, prompts)
        scores: dict[str, float] = {}
        costs: dict[str, float] = {}
        for column in row.values:
            if column in _AUXILIARY or (number := row.number(column)) is None:
                continue
            name, cells = column.removesuffix(_COST_SUFFIX), costs if column.endswith(_COST_SUFFIX) else scores
            model = aliases.get(name, name)
            if model in cells:
                raise row.error(f"two columns hold {'costs' if cells is costs else 'scores'} of {model!r}")
            cells[model] = number
        found = found or bool(scores)
        if not scores:
            counts.leave_out("on which no model ran")
        elif len(prompt.strip()) < min_prompt_chars:
            counts.leave_out("on a short prompt")
        else:
            labelled.append(Labelled(prompt, group, source_of(row, path), scores, costs, weight_of(row)))
    if not found:
        raise DataError(f"{path} has no column with scores of a model")
    return labelled


def pairs(
    labelled: Sequence[Labelled],
    *,
    drop_ties: bool = False,
    cap_per_prompt: int | None = 8,
    seed: int = 0,
    always: ModelPair | None = None,
    soft: bool = False,
    score_range: float | None = None,
    counts: Counts | None = None,
) -> list[Battle]:
    """Return a battle for every two models with a score on a prompt: the higher score wins.

    A tie is half a win for each model unless ties are dropped. Keep ties where labels are right or wrong: under the
    Rasch model, where a model answers right with odds a(model) / difficulty(prompt), the odds of winning a decided
    battle are a / a' on every prompt. Only the ties then say which prompts are hard.

    Args:
        labelled: The rows.
        drop_ties: Leave ties out, as RouteLLM does with battles.
        cap_per_prompt: The most battles of one prompt; None keeps all.
        seed: Decides which battles stay where a prompt has more than cap_per_prompt.
        always: Battles between these two models are kept whatever the cap.
        soft: The target says by how much the score was higher, as with `gaps`, and not only that it was.
        score_range: For soft targets: the largest difference that two scores can have, which makes a target of 1. None:
            the largest difference in the rows.
        counts: Filled with the numbers of battles kept and left out.

    Raises:
        InvalidArgumentError: score_range is not a finite number above 0, or two scores differ by more.
    """
    counts = Counts() if counts is None else counts
    span = _span(labelled, score_range) if soft else 0.0
    battles: list[Battle] = []
    for row in labelled:
        if len(row.scores) == 1:
            counts.leave_out("on which one model ran")
        for a, b in itertools.combinations(sorted(row.scores), 2):
            if drop_ties and row.scores[a] == row.scores[b]:
                counts.leave_out("tie")
                continue
            difference = row.scores[a] - row.scores[b]
            target = _soft(difference, span) if soft else _outcome(difference)
            battles.append(Battle(row.prompt, row.group, a, b, target, row.source, row.weight))
    kept = battles
    if cap_per_prompt is not None:
        own = [battle for battle in battles if always and {battle.model_a, battle.model_b} == set(always)]
        rest = [battle for battle in battles if not always or {battle.model_a, battle.model_b} != set(always)]
        kept = [*own, *capped(rest, cap_per_prompt, seed)]
    counts.leave_out("beyond the cap", len(battles) - len(kept))
    counts.battles += len(kept)
    return kept


def gaps(labelled: Iterable[Labelled], pair: ModelPair, *, score_range: float = 1.0) -> list[Battle]:
    """Return one battle between two models for each prompt; its target says by how much the strong model scored better.

    Args:
        labelled: The rows; those without a score of both models are left out.
        pair: The strong and the weak model.
        score_range: The largest difference that two scores can have. It makes a target of 1; equal scores make 0.5.
    """
    return [
        Battle(
            row.prompt,
            row.group,
            pair.strong,
            pair.weak,
            _soft(row.scores[pair.strong] - row.scores[pair.weak], score_range),
            row.source,
            row.weight,
        )
        for row in labelled
        if pair.strong in row.scores and pair.weak in row.scores
    ]


def _outcome(difference: float) -> float:
    return 1.0 if difference > 0.0 else 0.0 if difference < 0.0 else 0.5


def _soft(difference: float, score_range: float) -> float:
    return min(1.0, max(0.0, 0.5 + difference / (2.0 * score_range))) if score_range else 0.5


def _span(labelled: Sequence[Labelled], score_range: float | None) -> float:
    ranges = (max(row.scores.values()) - min(row.scores.values()) for row in labelled if row.scores)
    widest = max(ranges, default=0.0)
    if score_range is None:
        return widest
    if not 0.0 < score_range < math.inf or widest > score_range:
        raise InvalidArgumentError(
            f"score_range must be finite and at least {widest:g}, the largest difference of two scores, "
            f"found {score_range:g}"
        )
    return score_range
