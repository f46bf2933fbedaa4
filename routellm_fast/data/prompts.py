"""Reads from a row of data its prompt, its prompt group and its source.

The first of these columns that a row has gives the prompt:

* `prompt`: the text. In tables with `winner_model_a`, as the Chatbot Arena has them, a JSON list of turns, of which the
  first is the prompt.
* `prompt_id`: looked up in a prompts file with the columns `prompt_id`, `prompt` and optionally `prompt_group`.
* `question`: the text. With `options_json`, a JSON list, the prompt is laid out as MMLU asks: lettered options and
  "Answer:".
* `conversation_a`: a list of messages, of which the first is the prompt (another layout of the Chatbot Arena).

These columns are optional in all layouts: `license` (rows can be filtered by it), `prompt_group` (rows of one group are
never split between training and held-out data), `source`, `task` or `eval_name` (a data set within the file, which is
counted separately) and `weight` (above 0; 1 where it is empty).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from routellm_fast.data.counts import Counts
from routellm_fast.data.sources import rows_of, source_name
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError
from routellm_fast.tables import Row

SOURCE_COLUMNS: Final = ("source", "task", "eval_name")
# RouteLLM's data sets and the Arena's of 55,000 battles say by these columns, 0 or 1 each, who won.
WON_COLUMNS: Final = ("winner_model_a", "winner_model_b")
_CONVERSATION_COLUMN: Final = "conversation_a"

Prompts = Mapping[str, tuple[str, str]]


def read_prompts(path: Path) -> Prompts:
    """Return a mapping from prompt_id to (prompt, group), read from a prompts file. Raises DataError for a bad file."""
    prompts: dict[str, tuple[str, str]] = {}
    for row in rows_of(path):
        key, prompt = row.text("prompt_id"), row.text("prompt")
        if key in prompts:
            raise row.error(f"prompt_id {key!r} appears twice")
        prompts[key] = (prompt, _group(row, prompt))
    return prompts


def licensed_rows(path: Path, licenses: Collection[str] | None, counts: Counts) -> Iterable[Row]:
    """Yield the rows that have one of these licenses (None: all rows), and count them. Raises DataError for no row."""
    kept = False
    for row in rows_of(path):
        counts.rows += 1
        if licenses is not None and row.text("license") not in licenses:
            counts.leave_out("of another license")
            continue
        if stated := row.values.get("license"):
            counts.licenses[str(stated)] += 1
        kept = True
        yield row
    if not kept:
        raise DataError(f"{path} has no row of license {', '.join(sorted(licenses or ()))}")


def source_of(row: Row, path: Path) -> str:
    """Return the name of a row's data set: "FILE", or "FILE/PART" where the row names a data set within the file."""
    part = next((row.values[column] for column in SOURCE_COLUMNS if row.values.get(column)), None)
    return source_name(path) if part is None else f"{source_name(path)}/{part}"


def weight_of(row: Row) -> float:
    """Return the weight of a row, or 1 where it states none. Raises DataError unless it is finite and above 0."""
    weight = row.number("weight")
    if weight is None:
        return 1.0
    if not weight > 0.0:
        raise row.error(f"'weight' must be above 0, found {weight:g}")
    return weight


def first_turn(turns: Any) -> str | None:
    """Return the first turn of a JSON list, without surrounding space; None where this is no list of texts."""
    try:
        first = json.loads(turns)[0]
    except (TypeError, ValueError, LookupError, RecursionError):
        return None
    return first.strip() if isinstance(first, str) else None


def prompt_of(row: Row, prompts: Prompts | None) -> tuple[str, str]:
    """Return the prompt of a row and its group. Raises DataError where the row names no prompt."""
    if "prompt" in row.values:
        prompt = _first_of_turns(row) if WON_COLUMNS[0] in row.values else row.text("prompt")
        return prompt, _group(row, prompt)
    if "prompt_id" in row.values:
        key = row.text("prompt_id")
        if prompts is None:
            raise row.error("there is a prompt_id but no prompt: also give the file in which prompt_id is looked up")
        if key not in prompts:
            raise row.error(f"prompt_id {key!r} is not in the prompts file")
        return prompts[key]
    if "question" in row.values:
        prompt = _multiple_choice(row)
        return prompt, _group(row, prompt)
    if _CONVERSATION_COLUMN in row.values:
        prompt = _first_message(row)
        return prompt, _group(row, prompt)
    raise row.error(f"expected a column prompt, prompt_id or question, found {', '.join(map(repr, row.values))}")


def _group(row: Row, prompt: str) -> str:
    return row.text("prompt_group") if row.values.get("prompt_group") else group_of(prompt)


def _first_of_turns(row: Row) -> str:
    prompt = first_turn(row.text("prompt"))
    if prompt is None:
        raise row.error(f"'prompt' must be a JSON list of turns that are text, found {row.values['prompt']!r}")
    return prompt


def _first_message(row: Row) -> str:
    messages = row.values[_CONVERSATION_COLUMN]
    first = messages[0] if isinstance(messages, list) and messages else None
    content = first.get("content") if isinstance(first, Mapping) else None
    if not isinstance(content, str):
        raise row.error(
            f"{_CONVERSATION_COLUMN!r} must be a list of messages, the first of which has text as its content"
        )
    return content.strip()


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
        raise row.error(f"options_json must be a JSON list of at most {len(letters)} options, found {options!r}")
    lines = [f"{letter}. {option}" for letter, option in zip(letters, parsed, strict=False)]
    return "\n".join([row.text("question"), *lines, "Answer:"])
