"""Two models' responses to a prompt, not yet judged.

A source of them (see `routellm_fast.data.sources`) has the prompt as `routellm_fast.data.prompts` says, and either
`model_a`, `model_b`, `response_a`, `response_b`, or one column `response:<model>` a model. Optional: `reference`, a
correct answer, and what people decided, as in battles (see `routellm_fast.data.battles`), to compare the judge with. An
empty response is one that is missing. Where the prompt is the first turn of a list, so is the response.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routellm_fast.arrays import brief_repr
from routellm_fast.augmentation.guard import tainted_groups
from routellm_fast.data import Prompts, known_aliases
from routellm_fast.data.battles import target_of
from routellm_fast.data.prompts import WON_COLUMNS, first_turn, prompt_of, source_of
from routellm_fast.data.sources import rows_of
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.tables import LeftOut, Row, usable

_WIDE: Final = "response:"
_WINNERS: Final = {1.0: "model_a", 0.0: "model_b", 0.5: "tie"}


@dataclass(frozen=True, slots=True)
class Contest:
    """A prompt and the responses of two models.

    Attributes:
        prompt: Text of the prompt.
        group: Name of the prompt group; a group is held out as a whole.
        source: Name of the data set.
        model_a: Name of the first model.
        model_b: Name of the second model.
        response_a: Response of model_a; None where it has to be generated.
        response_b: Response of model_b, likewise.
        reference: A correct answer; None where there is none.
        winner: Whom people chose: "model_a", "model_b" or "tie"; None where nobody was asked.
    """

    prompt: str
    group: str
    source: str
    model_a: str
    model_b: str
    response_a: str | None
    response_b: str | None
    reference: str | None = None
    winner: str | None = None


@dataclass(frozen=True, slots=True)
class Contests:
    """Contests, and what became of the rows they come from.

    Attributes:
        found: The contests, each once.
        duplicates: Contests that were there already.
        forbidden: Contests left out because their prompt belongs to a forbidden group.
        incomplete: Contests left out because a response is missing that no endpoint generates.
    """

    found: tuple[Contest, ...]
    duplicates: int
    forbidden: int
    incomplete: int

    __repr__ = brief_repr


def read_contests(
    path: Path,
    *,
    prompts: Prompts | None = None,
    models: Sequence[str] | None = None,
    generated: Sequence[str] = (),
    forbidden: Set[str] = frozenset(),
    left_out: LeftOut | None = None,
) -> Contests:
    """Read contests.

    Args:
        path: The source; the text at the top of this module describes its layout.
        prompts: The prompts by the id that `prompt_id` refers to.
        models: Names of models; contests of any other model are left out. None takes all.
        generated: Models whose missing responses can be generated. With two of them, a file of prompts alone makes each
            prompt a contest of the two.
        forbidden: Names of prompt groups to leave out.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        DataError: A row breaks the layout and left_out does not take it, or no contest is left.
    """
    if models is not None and len(set(models)) < 2:
        raise InvalidArgumentError(f"a contest needs two models, found {', '.join(models) or 'none'}")
    counts = {"duplicates": 0, "forbidden": 0, "incomplete": 0}
    found: dict[Contest, None] = {}

    def read(row: Row) -> list[Contest]:
        return list(_contests_of(row, path, prompts, tuple(generated)))

    for contests in usable(rows_of(path, left_out=left_out), read, left_out):
        for contest in contests:
            if models is not None and not {contest.model_a, contest.model_b} <= set(models):
                continue
            if _missing(contest) - set(generated):
                counts["incomplete"] += 1
            elif contest in found:
                counts["duplicates"] += 1
            else:
                found[contest] = None
    tainted = tainted_groups(((contest.prompt, contest.group) for contest in found), forbidden)
    kept = tuple(contest for contest in found if contest.group not in tainted)
    counts["forbidden"] = len(found) - len(kept)
    if not kept:
        chosen = "" if models is None else f" between {', '.join(models)}"
        raise DataError(
            f"{path} has no contest{chosen} to judge: {counts['forbidden']:,} are in the files that they must not be "
            f"in, {counts['incomplete']:,} lack a response"
        )
    return Contests(kept, **counts)


def _contests_of(row: Row, path: Path, prompts: Prompts | None, generated: tuple[str, ...]) -> Iterator[Contest]:
    prompt, group = prompt_of(row, prompts)
    if not prompt.strip():
        raise row.error("the prompt is empty")
    source, reference, aliases = source_of(row, path), _optional(row, "reference"), known_aliases()
    is_decided = not row.is_empty("winner") or ("winner" not in row.values and WON_COLUMNS[0] in row.values)
    winner = _WINNERS[target_of(row)] if is_decided else None
    wide = [column for column in row.values if column.startswith(_WIDE)]
    if "model_a" in row.values:
        a, b = (aliases.get(name, name) for name in (row.text("model_a"), row.text("model_b")))
        if not a or not b or a == b:
            raise row.error(f"model_a and model_b must be two names, found {a!r} and {b!r}")
        yield Contest(
            prompt, group, source, a, b, _response(row, "response_a", a in generated),
            _response(row, "response_b", b in generated), reference, winner,
        )  # fmt: skip
        return
    if not wide and len(generated) < 2:
        raise row.error(
            "expected model_a, model_b, response_a and response_b, or columns response:<model>, or two models that "
            f"generate responses; found {', '.join(map(repr, row.values))}"
        )
    responses: dict[str, str | None] = dict.fromkeys(generated)
    for column in wide:
        name = column.removeprefix(_WIDE)
        name = aliases.get(name, name)
        if not name or responses.get(name) is not None:
            raise row.error(f"{column!r} must name a model, each once")
        responses[name] = _optional(row, column)
    for a, b in itertools.combinations(sorted(responses), 2):
        yield Contest(prompt, group, source, a, b, responses[a], responses[b], reference)


def _response(row: Row, column: str, is_generated: bool) -> str | None:
    if column not in row.values and not is_generated:
        raise row.error(f"there is no column {column!r}, only {', '.join(map(repr, row.values))}")
    if WON_COLUMNS[0] in row.values and not row.is_empty(column):
        # As the Arena's: a list of the turns of a conversation, as is the prompt.
        return first_turn(row.values[column]) or _optional(row, column)
    return _optional(row, column)


def _optional(row: Row, column: str) -> str | None:
    value = row.values.get(column)
    if value is None or value == "":
        return None
    return row.text(column)


def _missing(contest: Contest) -> set[str]:
    responses = {contest.model_a: contest.response_a, contest.model_b: contest.response_b}
    return {model for model, response in responses.items() if response is None}
