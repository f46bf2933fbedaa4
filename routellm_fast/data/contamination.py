"""Finds prompts of evaluation sets among the prompts that a router is to be trained on."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from routellm_fast.data.battles import Battle
from routellm_fast.data.prompts import first_turn, has_prompt, prompt_text
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError
from routellm_fast.tables import SUFFIXES, LeftOut, Row, form_of, read_table, usable

# MT-Bench's questions, and RouteLLM's lists of prompts that leaked into its own data.
_TURNS_COLUMN: Final = "turns"
_LISTED_COLUMN: Final = "eval_prompt"


def evaluation_files(path: Path) -> list[Path]:
    """Return the files of an evaluation set: the file itself, or all tables in a folder and below.

    Raises DataError where there is no such file, or the folder holds no table.
    """
    if not path.exists():
        raise DataError(f"{path} cannot be read (there is no such file or folder)")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if form_of(file) is not None and file.is_file())
    if not files:
        raise DataError(f"{path} holds no table ({', '.join(SUFFIXES)})")
    return files


def evaluation_groups(paths: Iterable[Path], *, left_out: LeftOut | None = None) -> frozenset[str]:
    """Return the group (see `group_of`) of each prompt in evaluation sets.

    A set is a file or a folder, e.g. RouteLLM's `evals`. Prompts are read from the columns that `data.prompts` lists
    (not from prompt_id), `turns` or `eval_prompt`. A file without any of these is skipped where another file of the set
    has one.

    Args:
        paths: The sets.
        left_out: Takes rows that cannot be read; None raises. See tables.LeftOut.

    Raises:
        DataError: A file is missing or damaged, a row cannot be read and left_out does not take it, or a set has no
            prompts.
    """
    found: set[str] = set()
    for path in paths:
        before, seen = len(found), False
        for file in evaluation_files(path):
            for prompt in usable(read_table(file, left_out=left_out), _prompt, left_out):
                if prompt is None:
                    continue
                seen = True
                found.add(group_of(prompt))
        if len(found) == before and not seen:
            raise DataError(
                f"{path} has no prompts: expected a column prompt, messages, question, conversation_a, "
                f"{_TURNS_COLUMN} or {_LISTED_COLUMN} in one of its files"
            )
    return frozenset(found)


def overlaps(battles: Sequence[Battle], groups: Collection[str]) -> list[bool]:
    """Say for each battle whether its prompt, or another prompt of its group, is an evaluation prompt.

    Two prompts are the same if they differ only in case, spacing and Unicode form.
    """
    prompts = {battle.prompt for battle in battles}
    known = {prompt for prompt in prompts if group_of(prompt) in groups}
    tainted = {battle.group for battle in battles if battle.prompt in known}
    return [battle.prompt in known or battle.group in tainted for battle in battles]


def _prompt(row: Row) -> str | None:
    """Return the prompt of a row; None where it has no column for one."""
    if has_prompt(row):
        return prompt_text(row)
    if _LISTED_COLUMN in row.values:
        return row.text(_LISTED_COLUMN)
    if _TURNS_COLUMN not in row.values:
        return None
    turns = row.values[_TURNS_COLUMN]
    prompt = first_turn(turns)
    if prompt is None:
        raise row.error(f"{_TURNS_COLUMN!r} must be a list of texts, found {reprlib.repr(turns)}")
    return prompt
