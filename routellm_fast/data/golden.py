"""Golden labels: every model's score on a prompt, and the battles that they make.

A file of golden labels is CSV or JSON lines, plain or gzipped, UTF-8: one row a prompt and one column a model with its
score, a finite number, True, False or empty (not run). The prompt is found as `routellm_fast.data.prompts` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routellm_fast.data.battles import Battle, capped
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import SOURCE_COLUMNS, Prompts, licensed_rows, prompt_of, source_of
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError

# Columns of a golden-label table that hold no model's score.
_AUXILIARY: Final = frozenset(
    {
        *("prompt", "prompt_id", "prompt_group", "question", "options_json", "answer", "license", "judge"),
        *("sample_id", "question_id", "category", "src"),
        *SOURCE_COLUMNS,
    }
)
# What an answer of a model cost, as RouterBench names it.
_COST_SUFFIX: Final = "|total_cost"


@dataclass(frozen=True, slots=True)
class Labelled:
    """One row of a golden-label table: a prompt, every model's score on it, and what its answer cost.

    Attributes:
        prompt: The text.
        group: Held out as a whole.
        source: Data set.
        scores: By model; a model that was not run is not there.
        costs: US dollars an answer, by model; of those models that the table gives a cost of.
    """

    prompt: str
    group: str
    source: str
    scores: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)


def read_golden(
    path: Path, *, prompts: Prompts | None = None, licenses: Collection[str] | None = None
) -> list[Labelled]:
    """Read golden labels. See read_battles for the arguments; rows on which no model ran are left out.

    Raises:
        DataError: A row breaks the layout; the text names file and line.
    """
    aliases = known_aliases()
    labelled: list[Labelled] = []
    for row in licensed_rows(path, licenses):
        prompt, group = prompt_of(row, prompts)
        scores: dict[str, float] = {}
        costs: dict[str, float] = {}
        for column in row.values:
            if column in _AUXILIARY or (number := row.number(column)) is None:
                continue
            name, cells = column.removesuffix(_COST_SUFFIX), costs if column.endswith(_COST_SUFFIX) else scores
            model = aliases.get(name, name)
            if model in cells:
                problem = f"two columns hold {'costs' if cells is costs else 'scores'} of {model!r}"
                raise row.error(problem)
            cells[model] = number
        if scores:
            labelled.append(Labelled(prompt, group, source_of(row, path), scores, costs))
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
    return [*kept, *capped(rest, cap_per_prompt, seed)]


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


def _outcome(a: float, b: float) -> float:
    return 1.0 if a > b else 0.0 if a < b else 0.5
