"""Reads from a row of data its prompt, its prompt group and its source.

The first of these columns in which a row has something gives the prompt:

* `prompt`: the text, or a chat: a list of messages, also as JSON text. In tables with `winner_model_a`, as the Chatbot
  Arena has them, also a list of turns as JSON text, of which the first that has text is the prompt.
* `messages`: a chat. Of a chat the prompt is what a router reads of it when it routes: see `routellm_fast.prompt`.
* `prompt_id`: looked up in a prompts file with the columns `prompt_id`, `prompt` and optionally `prompt_group`.
* `question`: the text. With `options_json`, a JSON list, the prompt is laid out as MMLU asks: lettered options and
  "Answer:".
* `conversation_a`: a list of messages, also as JSON text, of which the first of the user's that has text is the prompt
  (another layout of the Chatbot Arena).

These columns are optional in all layouts: `license` (rows can be filtered by it), `prompt_group` (rows of one group are
never split between training and held-out data), `source`, `task` or `eval_name` (a data set within the file, which is
counted separately) and `weight` (above 0; 1 where it is empty).
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast.data.counts import Counts
from routellm_fast.data.sources import rows_of, source_name
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.prompt import text_of
from routellm_fast.tables import LeftOut, Row, usable

SOURCE_COLUMNS: Final = ("source", "task", "eval_name")
# RouteLLM's data sets and the Arena's of 55,000 battles say by these columns, 0 or 1 each, who won.
WON_COLUMNS: Final = ("winner_model_a", "winner_model_b")
_CONVERSATION_COLUMN: Final = "conversation_a"
_ID_COLUMN: Final = "prompt_id"

Prompts = Mapping[str, tuple[str, str]]


def read_prompts(path: Path, *, left_out: LeftOut | None = None) -> Prompts:
    """Return a mapping from prompt_id to (prompt, group), read from a prompts file.

    Args:
        path: The source.
        left_out: Takes rows that cannot be read; see tables.LeftOut.

    Raises:
        DataError: The file cannot be read, or a row breaks the layout; the text names file and line.
    """
    prompts: dict[str, tuple[str, str]] = {}

    def read(row: Row) -> None:
        key = _name_in(row, _ID_COLUMN)
        if key in prompts:
            raise row.error(f"prompt_id {key!r} appears twice")
        prompt = _from_prompt(row)
        prompts[key] = (prompt, _group(row, prompt))

    for _ in usable(rows_of(path, left_out=left_out), read, left_out):
        pass
    return prompts


def licensed_rows(
    path: Path, licenses: Collection[str] | None, counts: Counts, *, left_out: LeftOut | None = None
) -> Iterable[Row]:
    """Yield the rows that have one of these licenses (None: all rows), and count them.

    Lines that are no row go to left_out and are counted as rows too. Raises DataError where no row is left.
    """
    left_out = LeftOut(strict=True) if left_out is None else left_out
    kept = is_stated = False
    before = left_out.rows
    for row in rows_of(path, left_out=left_out):
        counts.rows += 1 + left_out.rows - before  # the lines between this row and the one before it
        before = left_out.rows
        is_stated = is_stated or "license" in row.values
        if licenses is not None and str(row.values.get("license") or "") not in licenses:
            counts.leave_out("of another license")
            continue
        if stated := row.values.get("license"):
            counts.licenses[str(stated)] += 1
        kept = True
        yield row
        before = left_out.rows  # whoever reads the row may have refused it
    counts.rows += left_out.rows - before
    if not kept:
        lack = "" if is_stated else ": it has no column 'license'"
        raise DataError(f"{path} has no row of license {', '.join(sorted(licenses or ()))}{lack}")


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
    """Return the first turn of the user's that has text, without surrounding space; None where there is none.

    Args:
        turns: A list, also as JSON text. A turn is text, or a message with `content`: text or a list of parts. Turns
            without text (null, or a picture) and messages of another role, such as "system", are passed over.
    """
    for turn in _list_of(turns) or ():
        text = turn if isinstance(turn, str) else _text_of_message(turn) if isinstance(turn, Mapping) else ""
        if text.strip():
            return text.strip()
    return None


def arena_prompt(row: Row) -> str:
    """Return the prompt in the `prompt` of a row with winner_model_a. Raises DataError where it has no text.

    A list, also as JSON text, holds turns or messages. Any other text is the prompt itself.
    """
    value = row.values["prompt"]
    turns = _list_of(value)
    is_list = turns is not None and all(turn is None or isinstance(turn, (str, Mapping)) for turn in turns)
    prompt = first_turn(turns) if is_list else value
    if not isinstance(prompt, str):
        raise row.error(
            f"'prompt' must be text, or a JSON list of turns one of which has text, found {reprlib.repr(value)}"
        )
    return prompt


def opening_turn(row: Row) -> str:
    """Return the prompt as RouteLLM takes it from such a row: the first turn, "" where that has no text.

    RouteLLM looks at no further turn: its published vectors are in the order of the rows that it keeps. Otherwise as
    arena_prompt.
    """
    turns = _list_of(row.values["prompt"])
    return turns[0].strip() if turns and isinstance(turns[0], str) else arena_prompt(row)


def prompt_text(row: Row, prompts: Prompts | None = None) -> str:
    """Return the prompt of a row. Raises DataError where the row names no prompt."""
    return _text_and_group(row, prompts)[0]


def text_in(row: Row, column: str) -> str:
    """Return the prompt in a column that the caller names: as prompt_text does for "prompt", else the column's text."""
    return prompt_text(row) if column == "prompt" else row.text(column)


def prompt_of(row: Row, prompts: Prompts | None) -> tuple[str, str]:
    """Return the prompt of a row and its group. Raises DataError where the row names no prompt."""
    text, group = _text_and_group(row, prompts)
    return text, _group(row, text) if group is None else group


def has_prompt(row: Row) -> bool:
    """Say whether a row has a column that can hold a prompt itself, not only the id of one."""
    return any(column in row.values for column in _READERS)


def _text_and_group(row: Row, prompts: Prompts | None) -> tuple[str, str | None]:
    """Return a row's prompt, and its group where a prompts file says it."""
    column = _column_of(row)
    if column == _ID_COLUMN:
        key = _name_in(row, _ID_COLUMN)
        if prompts is None:
            raise row.error("there is a prompt_id but no prompt: also give the file in which prompt_id is looked up")
        if key not in prompts:
            raise row.error(f"prompt_id {key!r} is not in the prompts file")
        return prompts[key]
    return _READERS[column](row), None


def _column_of(row: Row) -> str:
    there = [column for column in _COLUMNS if column in row.values]
    if not there:
        raise row.error(
            f"expected a column {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}, found {', '.join(map(repr, row.values))}"
        )
    return next((column for column in there if not row.is_empty(column)), there[0])


def _name_in(row: Row, column: str) -> str:
    """Return a name: text, or a whole number as other programs write it."""
    value = row.values.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else row.text(column)


def _group(row: Row, prompt: str) -> str:
    return group_of(prompt) if row.is_empty("prompt_group") else _name_in(row, "prompt_group")


def _from_prompt(row: Row) -> str:
    value = row.values.get("prompt")
    if WON_COLUMNS[0] in row.values:
        return arena_prompt(row)
    if isinstance(value, str):
        # A chat as JSON text. Other text that happens to be a JSON list is a prompt as it stands.
        chat = _list_of(value) if value.lstrip().startswith("[") and '"role"' in value else None
        return _from_chat(row, "prompt", chat) if chat and _is_chat(chat) else value
    if not isinstance(value, list):
        return row.text("prompt")
    if _is_chat(value):
        return _from_chat(row, "prompt", value)
    prompt = first_turn(value)
    # What is neither a chat nor a list of turns may be the parts of one message.
    return _from_chat(row, "prompt", [{"role": "user", "content": value}]) if prompt is None else prompt


def _from_messages(row: Row) -> str:
    messages = _list_of(row.values["messages"])
    return _from_chat(row, "messages", row.values["messages"] if messages is None else messages)


def _from_chat(row: Row, column: str, chat: Any) -> str:
    try:
        return text_of(chat)
    except InvalidArgumentError as error:
        raise row.error(f"{column!r}: {error}") from error


def _from_conversation(row: Row) -> str:
    found = first_turn(row.values[_CONVERSATION_COLUMN])
    if found is None:
        raise row.error(
            f"{_CONVERSATION_COLUMN!r} must be a list of messages, one of which is the user's and has text as its "
            "content"
        )
    return found


def _list_of(value: Any) -> Sequence[Any] | None:
    """Return a list, also where it is JSON text; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _is_chat(turns: Sequence[Any]) -> bool:
    return all(isinstance(turn, Mapping) and "role" in turn for turn in turns)


def _text_of_message(message: Mapping[str, Any]) -> str:
    """Return the text of a message of the user's; "" for other roles and content without text."""
    if message.get("role", "user") != "user":
        return ""
    try:
        return text_of([{"role": "user", "content": message.get("content")}])
    except InvalidArgumentError:
        return ""


def _multiple_choice(row: Row) -> str:
    options = row.values.get("options_json")
    if not options:
        return row.text("question")
    try:
        parsed = json.loads(options) if isinstance(options, str) else options
    except (ValueError, RecursionError):
        parsed = None
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if not isinstance(parsed, list) or not 0 < len(parsed) <= len(letters):
        raise row.error(f"options_json must be a JSON list of at most {len(letters)} options, found {options!r}")
    lines = [f"{letter}. {option}" for letter, option in zip(letters, parsed, strict=False)]
    return "\n".join([row.text("question"), *lines, "Answer:"])


_READERS: Final[Mapping[str, Callable[[Row], str]]] = {
    "prompt": _from_prompt,
    "messages": _from_messages,
    "question": _multiple_choice,
    _CONVERSATION_COLUMN: _from_conversation,
}
_COLUMNS: Final = ("prompt", "messages", _ID_COLUMN, "question", _CONVERSATION_COLUMN)
