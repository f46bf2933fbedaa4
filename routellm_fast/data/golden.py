"""Golden labels: the score of every model on a prompt, and battles made from such scores.

A source of golden labels (see `routellm_fast.data.sources`) has one row for each prompt and one column for each model.
A cell is the model's score: a finite number, true, false, yes, no, or empty where the model was not run. The module
`routellm_fast.data.prompts` says which column holds the prompt, and `score_columns` which columns are no models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from routellm_fast.data.battles import Battle, capped
from routellm_fast.data.counts import UNREADABLE, Counts
from routellm_fast.data.names import check_known, known_aliases
from routellm_fast.data.prompts import Prompts, licensed_rows, prompt_of, source_of, weight_of
from routellm_fast.data.score_columns import ADVICE, COST_SUFFIX, ScoreColumns, is_known, is_meant
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.tables import LeftOut, Row, usable


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
    models: Collection[str] | None = None,
    min_prompt_chars: int = 0,
    counts: Counts | None = None,
    left_out: LeftOut | None = None,
) -> list[Labelled]:
    """Read golden labels from a table. Rows on which no model ran are left out.

    Args:
        path: The source; the text of this module describes its columns.
        prompts: See read_battles.
        licenses: See read_battles.
        models: Read only the columns of these models, by any name that known_aliases knows. None takes every column for
            a model's that has no other meaning; see score_columns.
        min_prompt_chars: See read_battles.
        counts: See read_battles.
        left_out: Takes rows that break the layout, and the names of columns that are known to be no model's; None
            raises. See tables.LeftOut.

    Raises:
        DataError: A row breaks the layout and left_out does not take it, or all rows do; or numbers of a column cannot
            be scores. The text names the file, and the line or the column.
        UnknownModelError: The table has no column of any of `models`.
    """
    counts = Counts() if counts is None else counts
    labelled = _read(path, prompts, licenses, models, min_prompt_chars, counts, left_out)
    if models is not None and counts.models.isdisjoint(_known(models)):
        known = ", ".join(sorted(counts.models)) or "none"
        raise UnknownModelError(f"{path} has no scores of {', '.join(map(repr, sorted(models)))}, only of: {known}")
    return labelled


def read_golden_files(
    paths: Sequence[Path],
    *,
    prompts: Prompts | None = None,
    licenses: Collection[str] | None = None,
    models: Collection[str] | None = None,
    left_out: LeftOut | None = None,
) -> list[Labelled]:
    """Read golden labels from several tables, each of which may lack columns of some of the models, or of all.

    See read_golden. Raises UnknownModelError, which names similar models, where no table has a column of a model.
    """
    counts = Counts()
    rows = [row for path in paths for row in _read(path, prompts, licenses, models, 0, counts, left_out)]
    if paths and models is not None:
        check_known(_known(models), counts.models, what="scores")
    return rows


def _known(models: Collection[str]) -> list[str]:
    aliases = known_aliases()
    return [aliases.get(name, name) for name in models]


def _read(
    path: Path,
    prompts: Prompts | None,
    licenses: Collection[str] | None,
    models: Collection[str] | None,
    min_prompt_chars: int,
    counts: Counts,
    left_out: LeftOut | None,
) -> list[Labelled]:
    columns, found = _Columns(None if models is None else _known(models)), ScoreColumns()
    labelled: list[Labelled] = []
    any_score = False
    refused = 0 if left_out is None else left_out.rows

    def read(row: Row) -> Labelled:
        if "model_a" in row.values and "model_b" in row.values:
            raise row.error(
                "this is a battle (model_a, model_b), expected golden labels: a column for each model with its score. "
                "Give the file where battles are read"
            )
        prompt, group = prompt_of(row, prompts)
        scores, costs = columns.cells_of(row)
        return Labelled(prompt, group, source_of(row, path), scores, costs, weight_of(row))

    for row in usable(licensed_rows(path, licenses, counts, left_out=left_out), read, left_out):
        any_score = any_score or bool(row.scores)
        found.add(row.source, row.scores)
        if not row.scores:
            counts.leave_out("on which no model ran")
        elif not row.prompt.strip():
            counts.leave_out("on an empty prompt")
        elif len(row.prompt.strip()) < min_prompt_chars:
            counts.leave_out("on a short prompt")
        else:
            labelled.append(row)
    counts.models |= columns.models
    counts.leave_out(UNREADABLE, (left_out.rows if left_out is not None else 0) - refused)
    if not any_score and (models is None or columns.has_chosen):
        aside = f", only {', '.join(map(repr, columns.known))}, which are not taken for models" if columns.known else ""
        raise DataError(f"{path} has no column with scores of a model{aside}")
    if models is None:
        found.check(path)
        if left_out is not None and columns.known:
            left_out.columns[path] = tuple(columns.known)
    return labelled


class _Columns:
    """What the columns of one table mean: which were met, and which hold scores and costs of the chosen models."""

    def __init__(self, models: Collection[str] | None) -> None:
        self._aliases = known_aliases()
        self._chosen = None if models is None else frozenset(models)
        self.has_chosen = False
        self.models: set[str] = set()
        self.known: list[str] = []
        self._roles: dict[str, tuple[str, bool] | None] = {}

    def cells_of(self, row: Row) -> tuple[dict[str, float], dict[str, float]]:
        """Return the scores and the costs of a row, by model. Raises DataError where a cell is none."""
        scores: dict[str, float] = {}
        costs: dict[str, float] = {}
        for column in row.values:
            if column not in self._roles:
                self._roles[column] = self._role_of(column)
            if (role := self._roles[column]) is None:
                continue
            model, is_cost = role
            try:
                number = row.number(column)
            except DataError as error:
                if self._chosen is not None:
                    raise
                raise DataError(f"{error}. {ADVICE}") from error
            if number is None:
                continue
            cells = costs if is_cost else scores
            if model in cells:
                raise row.error(f"two columns hold {'costs' if is_cost else 'scores'} of {model!r}")
            cells[model] = number
        return scores, costs

    def _role_of(self, column: str) -> tuple[str, bool] | None:
        """Return whose scores or costs a column holds, and whether these are costs; None for neither."""
        is_cost = column.endswith(COST_SUFFIX)
        name = column.removesuffix(COST_SUFFIX)
        model = self._aliases.get(name, name)
        if self._chosen is not None and model in self._chosen:
            self.has_chosen = True
            self.models.update(() if is_cost else (model,))
            return model, is_cost
        if is_meant(column):
            return None
        if not is_cost and is_known(column):
            self.known.append(column)
            return None
        self.models.update(() if is_cost else (model,))
        return (model, is_cost) if self._chosen is None else None


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
