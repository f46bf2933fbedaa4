"""Which prompt a row of data is about, and which group and source it belongs to.

The prompt is `prompt`, `prompt_id`, or `question` with `options_json` (a JSON list): such a question is laid out as
MMLU is asked, with lettered options and "Answer:". `prompt_id` is looked up in a prompts file: `prompt_id`, `prompt`,
and optionally `prompt_group`. In all layouts these columns are known and optional: `license` (rows can be filtered by
it), `prompt_group` (prompts that must not be split), `source` or `task` or `eval_name` (a data set within the file,
counted on its own).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from routellm_fast._tables import Row, read_table
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError

SOURCE_COLUMNS: Final = ("source", "task", "eval_name")

Prompts = Mapping[str, tuple[str, str]]


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


def licensed_rows(path: Path, licenses: Collection[str] | None) -> Iterable[Row]:
    """Yield the rows of these licenses, None for all. Raises DataError where there are none."""
    kept = False
    for row in read_table(path):
        if licenses is None or row.text("license") in licenses:
            kept = True
            yield row
    if not kept:
        message = f"{path} has no row of license {', '.join(sorted(licenses or ()))}"
        raise DataError(message)


def source_of(row: Row, path: Path) -> str:
    """Return the data set of a row: its file's name, and the data set that it names within."""
    stem = path.name.split(".")[0]
    part = next((row.values[column] for column in SOURCE_COLUMNS if row.values.get(column)), None)
    return stem if part is None else f"{stem}/{part}"


def prompt_of(row: Row, prompts: Prompts | None) -> tuple[str, str]:
    """Return prompt and group of a row. Raises DataError where it names no prompt."""
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


def _group(row: Row, prompt: str) -> str:
    return row.text("prompt_group") if row.values.get("prompt_group") else group_of(prompt)


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
