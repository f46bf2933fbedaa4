"""Labels that are there already: a user's own votes, and tables of scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from routellm_fast.adaptation.labels import Labels, joined
from routellm_fast.arrays import brief_repr
from routellm_fast.data import Labelled, Prompts, known_aliases, models_of, read_battles, read_golden
from routellm_fast.data.counts import Counts
from routellm_fast.data.names import check_known
from routellm_fast.data.split import joined_groups
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError
from routellm_fast.evaluation.datasets import scale_of
from routellm_fast.tables import LeftOut


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """Labels of a file, and what became of its rows.

    Attributes:
        labels: The labels, each prompt once, in the order of their first rows.
        rows: Number of rows that say something of both models.
        repeated: Number of those rows whose prompt was there already. The labels of such a prompt are the mean over its
            rows, weighted by their `weight`.
        others: Number of rows left out because they are not of both models: votes on other models, and prompts on which
            one of the two was not run.
        scale: What a perfect answer scores in the file; all scores were divided by it. 1 for votes.
    """

    labels: Labels
    rows: int
    repeated: int
    others: int
    scale: float = 1.0

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class _Rated:
    """What one row says of both models' answers to a prompt."""

    prompt: str
    group: str
    strong: float
    weak: float
    weight: float
    costs_usd: tuple[float, float] | None = None


def read_labels(
    tables: Sequence[Path],
    votes: Sequence[Path],
    pair: ModelPair,
    *,
    prompts: Prompts | None = None,
    left_out: LeftOut | None = None,
) -> tuple[Labels, dict[str, str]]:
    """Read several files, and return their labels as one, with what was read of each file in words.

    Args:
        tables: See read_scores.
        votes: See read_votes.
        pair: The two models.
        prompts: The prompts by the id that `prompt_id` refers to.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        InvalidArgumentError: There is no file.
        DataError, UnknownModelError: See read_scores and read_votes.
    """
    found = [read_scores(path, pair, prompts=prompts, left_out=left_out) for path in tables]
    found += [read_votes(path, pair, prompts=prompts, left_out=left_out) for path in votes]
    facts = {
        str(path): f"{len(read.labels):,} labels of {read.rows:,} rows"
        + (f", {read.others:,} rows that are not of both models left out" if read.others else "")
        + (f"; scores were divided by {read.scale:g}" if read.scale != 1.0 else "")
        for path, read in zip([*tables, *votes], found, strict=True)
    }
    return joined([read.labels for read in found]), facts


def read_votes(
    path: Path, pair: ModelPair, *, prompts: Prompts | None = None, left_out: LeftOut | None = None
) -> ReadLabels:
    """Read votes: which of the two models answered a prompt better.

    A vote for a model gives its answer the score 1 and the other 0; a tie gives both 0.5.

    Args:
        path: A table of battles; data.battles describes it. Battles of other models are left out and counted.
        pair: The two models, by any names that data.known_aliases knows.
        prompts: The prompts by the id that `prompt_id` refers to.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        DataError: A row breaks the layout and left_out does not take it, or no vote is between the two models.
        UnknownModelError: No vote is on one of the models; the text names similar ones.
    """
    battles = read_battles(path, prompts=prompts, drop_ties=False, left_out=left_out)
    strong, weak = _known(pair)
    check_known((strong, weak), models_of(battles), what="vote")
    rated = []
    for battle in battles:
        if {battle.model_a, battle.model_b} == {strong, weak}:
            share = battle.target if battle.model_a == strong else 1.0 - battle.target
            rated.append(_Rated(battle.prompt, battle.group, share, 1.0 - share, battle.weight))
    if not rated:
        raise DataError(
            f"{path} has {len(battles):,} votes, and none is between {pair.strong!r} and {pair.weak!r}: name two "
            "models that were compared with one another"
        )
    return _merged(pair, rated, others=len(battles) - len(rated))


def read_scores(
    path: Path, pair: ModelPair, *, prompts: Prompts | None = None, left_out: LeftOut | None = None
) -> ReadLabels:
    """Read a table of scores: one row a prompt, one column a model; higher is better.

    Args:
        path: A table; data.golden describes it. `<model>|total_cost` holds what an answer cost in US dollars. Scores
            beyond 1 are divided by what a perfect answer scores: the least of 5, 10 and 100 that no score exceeds.
        pair: The two models, by any names that data.known_aliases knows.
        prompts: The prompts by the id that `prompt_id` refers to.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        DataError: A row breaks the layout and left_out does not take it, a score or cost is below 0, or no prompt has
            scores of both models.
        UnknownModelError: The table has no column of one of the models.
    """
    counts = Counts()
    labelled = read_golden(path, prompts=prompts, models=pair, counts=counts, left_out=left_out)
    strong, weak = _known(pair)
    check_known((strong, weak), counts.models, what="scores")
    both = [row for row in labelled if strong in row.scores and weak in row.scores]
    if not both:
        raise DataError(f"{path} has no prompt with scores of both {pair.strong!r} and {pair.weak!r}")
    for row in both:
        _check_at_least_0(path, "score", (row.scores[strong], row.scores[weak]))
        _check_at_least_0(path, "cost", row.costs.values())
    scale = scale_of(max(row.scores[model] for row in both for model in (strong, weak)))
    rated = [
        _Rated(
            row.prompt,
            row.group,
            row.scores[strong] / scale,
            row.scores[weak] / scale,
            row.weight,
            _costs(row, strong, weak),
        )
        for row in both
    ]
    return _merged(pair, rated, others=len(labelled) - len(both), scale=scale)


def _known(pair: ModelPair) -> tuple[str, str]:
    aliases = known_aliases()
    return aliases.get(pair.strong, pair.strong), aliases.get(pair.weak, pair.weak)


def _check_at_least_0(path: Path, what: str, numbers: Iterable[float]) -> None:
    if (lowest := min(numbers, default=0.0)) < 0.0:
        raise DataError(f"{path}: a {what} is zero or more, found {lowest:g}")


def _costs(row: Labelled, strong: str, weak: str) -> tuple[float, float] | None:
    return (row.costs[strong], row.costs[weak]) if strong in row.costs and weak in row.costs else None


def _merged(pair: ModelPair, rated: Sequence[_Rated], *, others: int, scale: float = 1.0) -> ReadLabels:
    """Return the labels of all rows: of several rows on one prompt, the mean."""
    by_prompt: dict[str, list[_Rated]] = {}
    for row in rated:
        by_prompt.setdefault(row.prompt, []).append(row)
    groups = joined_groups((row.prompt, row.group) for row in rated)
    known_costs = [row.costs_usd for row in rated if row.costs_usd is not None]
    has_costs = len(known_costs) == len(rated)
    means = np.empty((len(by_prompt), 4))
    for mean, rows in zip(means, by_prompt.values(), strict=True):
        table = [(row.strong, row.weak, *(row.costs_usd or (0.0, 0.0))) for row in rows]
        # One row keeps its numbers to the bit.
        mean[:] = table[0] if len(table) == 1 else np.average(table, axis=0, weights=[row.weight for row in rows])
    labels = Labels(
        pair,
        tuple(by_prompt),
        tuple(groups[prompt] for prompt in by_prompt),
        np.minimum(means[:, 0], 1.0),
        np.minimum(means[:, 1], 1.0),
        np.ascontiguousarray(means[:, 2:]) if has_costs else None,
    )
    return ReadLabels(labels, len(rated), len(rated) - len(by_prompt), others, scale)
