"""Prompts to be labelled, with what is there already: a correct answer, and answers of the two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routellm_fast.arrays import brief_repr
from routellm_fast.augmentation.contests import Contest, read_contests
from routellm_fast.data import Prompts, known_aliases
from routellm_fast.data.split import group_of, joined_groups
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.shown import shown
from routellm_fast.tables import LeftOut

_SHOWN_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt to be labelled.

    Attributes:
        prompt: The text.
        group: Name of the prompt group; prompts of one group stay on one side of every split.
        reference: A correct answer, or tests that a correct answer passes; None where there is none.
        strong_answer: The strong model's answer; None where the model has to be asked.
        weak_answer: The weak model's answer, likewise.
        place: Where the prompt comes from, for errors: "prompts.jsonl, line 7". "" where that is not known.
    """

    prompt: str
    group: str
    reference: str | None = None
    strong_answer: str | None = None
    weak_answer: str | None = None
    place: str = ""

    @property
    def name(self) -> str:
        """What errors call the prompt: where it comes from, or how it begins."""
        if self.place:
            return self.place
        begin = shown(self.prompt[:_SHOWN_CHARS])
        return f"the prompt {begin!r}{'…' if len(self.prompt) > _SHOWN_CHARS else ''}"


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases that were read, and what became of the other rows.

    Attributes:
        found: The cases, each prompt once, in the order of their first rows.
        repeated: Number of rows left out because their prompt was there already, with whatever answers.
        forbidden: Number of rows left out because their prompt belongs to a forbidden group.
        incomplete: Number of rows left out because an answer is missing and no model is asked.
    """

    found: tuple[Case, ...]
    repeated: int
    forbidden: int
    incomplete: int

    __repr__ = brief_repr


def cases_of(
    prompts: Sequence[str], groups: Sequence[str] | None = None, references: Sequence[str | None] | None = None
) -> tuple[Case, ...]:
    """Return cases of prompts that both models are still to be asked.

    Args:
        prompts: n distinct prompts.
        groups: n names of groups; None takes data.group_of of each prompt. Groups that share a prompt, but for case,
            spacing and Unicode form, become one.
        references: n correct answers; None for none.

    Raises:
        InvalidArgumentError: The numbers differ, or a prompt is there twice.
    """
    groups = [group_of(prompt) for prompt in prompts] if groups is None else groups
    references = [None] * len(prompts) if references is None else references
    if not len(prompts) == len(groups) == len(references):
        raise InvalidArgumentError(
            f"expected as many groups and references as prompts, found {len(prompts):,} prompts, {len(groups):,} "
            f"groups and {len(references):,} references"
        )
    check_distinct(prompts)
    joined = joined_groups(zip(prompts, groups, strict=True))
    return tuple(Case(prompt, joined[prompt], reference) for prompt, reference in zip(prompts, references, strict=True))


def check_distinct(prompts: Sequence[str]) -> None:
    """Raise InvalidArgumentError where a prompt is there twice."""
    if len(set(prompts)) < len(prompts):
        twice = next(prompt for prompt, count in Counter(prompts).items() if count > 1)
        raise InvalidArgumentError(f"prompts are labelled once each, found twice: {shown(twice[:_SHOWN_CHARS])!r}")


def read_cases(
    path: Path,
    pair: ModelPair,
    *,
    asks: bool = True,
    prompts: Prompts | None = None,
    forbidden: Set[str] = frozenset(),
    left_out: LeftOut | None = None,
) -> Cases:
    """Read prompts, with whatever answers of the two models are there.

    Args:
        path: A table of prompts alone, or of answers as augmentation.contests describes it: `response:<model>` a model,
            or `model_a`, `model_b`, `response_a`, `response_b`. A column `reference` holds a correct answer. Rows of
            other models are not read.
        pair: The two models, by any names that data.known_aliases knows.
        asks: Whether missing answers are asked for; otherwise rows that lack one are left out.
        prompts: The prompts by the id that `prompt_id` refers to.
        forbidden: Names of prompt groups to leave out.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        DataError: A row breaks the layout and left_out does not take it, or no case is left.
    """
    aliases = known_aliases()
    strong, weak = (aliases.get(name, name) for name in pair)
    read = read_contests(
        path,
        prompts=prompts,
        models=(strong, weak),
        generated=(strong, weak) if asks else (),
        forbidden=forbidden,
        left_out=left_out,
    )
    first: dict[str, Contest] = {}
    for contest in read.found:
        first.setdefault(contest.prompt, contest)
    groups = joined_groups((contest.prompt, contest.group) for contest in read.found)
    found = tuple(_case(contest, groups[contest.prompt], strong) for contest in first.values())
    repeated = read.duplicates + len(read.found) - len(found)
    return Cases(found, repeated, read.forbidden, read.incomplete)


def _case(contest: Contest, group: str, strong: str) -> Case:
    answers = (contest.response_a, contest.response_b)
    strong_answer, weak_answer = answers if contest.model_a == strong else reversed(answers)
    return Case(contest.prompt, group, contest.reference, strong_answer, weak_answer)
