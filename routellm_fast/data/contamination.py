"""Finds prompts of evaluation sets among the prompts that a router is to be trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast.data.battles import Battle
from routellm_fast.data.prompts import prompt_of
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError
from routellm_fast.tables import SUFFIXES, Row, read_table

_PROMPT_COLUMNS: Final = ("prompt", "question")
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
    files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
    if not files:
        raise DataError(f"{path} holds no table ({', '.join(SUFFIXES)})")
    return files


def evaluation_groups(paths: Iterable[Path]) -> frozenset[str]:
    """Return the group (see `group_of`) of each prompt in evaluation sets.

    A set is a file or a folder, e.g. RouteLLM's `evals`. Prompts are read from the column `prompt`, `question` (with
    `options_json`), `turns` or `eval_prompt`. A file without any of these is skipped where another file of the set has
    one.

    Raises:
        DataError: A file is missing or damaged, or a set has no prompts.
    """
    found: set[str] = set()
    for path in paths:
        before, seen = len(found), False
        for file in evaluation_files(path):
            for row in read_table(file):
                prompts = _prompts(row)
                if prompts is None:
                    break
                seen = True
                found.update(group_of(prompt) for prompt in prompts)
        if len(found) == before and not seen:
            expected = ", ".join((*_PROMPT_COLUMNS, _TURNS_COLUMN, _LISTED_COLUMN))
            raise DataError(f"{path} has no prompts: expected a column {expected} in one of its files")
    return frozenset(found)


def overlaps(battles: Sequence[Battle], groups: Collection[str]) -> list[bool]:
    """Say for each battle whether its prompt, or another prompt of its group, is an evaluation prompt.

    Two prompts are the same if they differ only in case, spacing and Unicode form.
    """
    prompts = {battle.prompt for battle in battles}
    known = {prompt for prompt in prompts if group_of(prompt) in groups}
    tainted = {battle.group for battle in battles if battle.prompt in known}
    return [battle.prompt in known or battle.group in tainted for battle in battles]


def _prompts(row: Row) -> list[str] | None:
    if any(column in row.values for column in _PROMPT_COLUMNS):
        return [prompt_of(row, None)[0]]
    if _LISTED_COLUMN in row.values:
        return [row.text(_LISTED_COLUMN)]
    if _TURNS_COLUMN in row.values:
        turns: Any = row.values[_TURNS_COLUMN]
        if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
            raise row.error(f"{_TURNS_COLUMN!r} must be a list of texts, found {turns!r}")
        return turns[:1]
    return None
