"""Reads prompts from arguments, files (text, JSON lines and tables) or standard input, one at a time."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from select import select
from typing import Any, Final, NamedTuple

from routellm_fast.cli._printing import tell
from routellm_fast.cli._progress import working
from routellm_fast.cli._streams import input_descriptor, is_typed
from routellm_fast.data.prompts import Prompts, has_prompt, prompt_text
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.tables import (
    MAX_LINE_CHARACTERS,
    LeftOut,
    Row,
    check_json_lines,
    check_text,
    form_of,
    lines_within,
    parse_json_line,
    read_table,
    too_long,
    usable,
)

_INPUT: Final = "standard input"
_BYTE_ORDER_MARK: Final = "\ufeff"
_CHUNK_BYTES: Final = 1 << 16
# How the byte order mark of UTF-16, in either byte order, reads as UTF-8.
_UTF_16_READ_AS_UTF_8: Final = "\N{REPLACEMENT CHARACTER}" * 2
_UTF_16_MARK: Final = b"\xff\xfe"
# Files of these names hold JSON on each line, so that a line that is none is damaged, and no prompt.
_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
# Tables that cannot be read. Their lines are no prompts.
_OTHER_TABLES: Final = (".tsv", ".tsv.gz", ".tab", ".xlsx", ".xls", ".ods")


class PromptFormat(str, Enum):
    """How a line becomes a prompt."""

    AUTO = "auto"
    TEXT = "text"
    JSONL = "jsonl"


class Prompt(NamedTuple):
    """A prompt and the id from its JSON line; None where it had no id."""

    text: str
    id: Any = None


class PipedLines:
    """Reads lines from a file descriptor, and can tell whether the next line has arrived."""

    def __init__(self, descriptor: int) -> None:
        """Take a descriptor, which stays open."""
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []  # pieces of a line whose end has not come yet
        self._rest_bytes = 0
        self._lines_read = 0
        self._has_ended = False

    def __iter__(self) -> Iterator[str]:
        """Yield each line with its line end, as text; bytes that are no UTF-8 become U+FFFD."""
        while self._lines or not self._has_ended:
            if self._lines:
                yield self._lines.popleft().decode("utf-8", "replace")
            else:
                self._read()

    def is_at_hand(self, patience_s: float) -> bool:
        """Return whether the next line that is not blank, or the end, arrives while none takes this many seconds."""
        while not self._has_ended and not any(line.strip() for line in self._lines):
            if not select([self._descriptor], [], [], patience_s)[0]:
                return False
            self._read()
        return True

    def _read(self) -> None:
        try:
            content = os.read(self._descriptor, _CHUNK_BYTES)
        except OSError as error:
            raise _unreadable_input(error) from error
        *lines, rest = content.split(b"\n")
        for line in lines:
            self._lines.append(b"".join((*self._rest, line, b"\n")))
            self._rest, self._rest_bytes = [], 0
        self._lines_read += len(lines)
        if rest:
            self._rest.append(rest)
            self._rest_bytes += len(rest)
            if self._rest_bytes > MAX_LINE_CHARACTERS:
                raise too_long(_INPUT, self._lines_read + 1)
        if not content:
            self._has_ended = True
            if self._rest:
                self._lines.append(b"".join(self._rest))


def read_prompts(
    arguments: Sequence[str],
    file: Path | None,
    form: PromptFormat,
    pipe: PipedLines | None = None,
    *,
    ids: Prompts | None = None,
    keep_blank: bool = False,
    left_out: LeftOut | None = None,
) -> Iterator[Prompt]:
    """Yield prompts from the arguments, else from a file, else from standard input, in constant memory.

    A file is a table where it is named so (CSV or Parquet), else it has a prompt or a JSON object on each line; text
    may be gzipped. `routellm_fast.data.prompts` says how a row of a table, or an object, becomes a prompt.

    Args:
        arguments: Prompts.
        file: The file; None for none.
        form: How lines become prompts. Lines of a table are no prompts, unless this is TEXT or JSONL.
        pipe: The reader of standard input; None makes one.
        ids: The prompts by the prompt_id of a row.
        keep_blank: Also yield prompts of white space only; otherwise left_out counts them. An object on a line of JSON
            is always yielded, whatever its prompt, since whoever wrote it waits for its answer.
        left_out: Takes lines and rows that cannot be read; None raises. See tables.LeftOut.

    Raises:
        InvalidArgumentError: There are both arguments and a file.
        DataError: The file cannot be read, or a line or row has no prompt and left_out does not take it.
    """
    if arguments and file is not None:
        raise InvalidArgumentError("give prompts as arguments or in --file, not both")
    reading = _Reading(ids, keep_blank, left_out)
    if arguments:
        yield from (Prompt(text) for text in arguments)
    elif file is None:
        _say_what_is_waited_for()
        yield from _parse_lines(pipe or _input_lines(), _INPUT, form, reading)
    elif form is PromptFormat.AUTO and form_of(file) in ("csv", "parquet"):
        yield from _parse_table(file, reading)
    else:
        yield from _parse_lines(_lines_of(file), str(file), _form_of_lines(file, form), reading)


class _Reading(NamedTuple):
    """The arguments of read_prompts that every kind of file shares."""

    ids: Prompts | None
    keep_blank: bool
    left_out: LeftOut | None

    def is_skipped(self, text: str) -> bool:
        """Say whether a text is blank and not kept, and count it then."""
        if self.keep_blank or (text and not text.isspace()):
            return False
        if self.left_out is not None:
            self.left_out.blank += 1
        return True


def _form_of_lines(file: Path, form: PromptFormat) -> PromptFormat:
    name = file.name.lower()
    if form is PromptFormat.AUTO and name.endswith(_OTHER_TABLES):
        raise DataError(
            f"{file} is a table of a kind that cannot be read: save it as CSV in UTF-8, whose cells may be separated "
            "by tabs or semicolons too. If its lines are prompts, say --format text"
        )
    return PromptFormat.JSONL if form is PromptFormat.AUTO and name.endswith(_JSON_SUFFIXES) else form


def _say_what_is_waited_for() -> None:
    if is_typed():
        working("")
        tell("type a prompt and press Enter for each; Ctrl-D ends the input")
    else:
        working("waiting for prompts on standard input")


def _input_lines() -> Iterator[str]:
    try:
        # A reader of its own, since sys.stdin has the encoding of the locale. Closing it must not close standard input.
        with open(input_descriptor(), encoding="utf-8", errors="replace", newline="\n", closefd=False) as stream:
            yield from lines_within(stream, _INPUT)
    except OSError as error:
        raise _unreadable_input(error) from error


def _unreadable_input(error: OSError) -> DataError:
    return DataError(f"standard input cannot be read ({error.strerror or error})")


def _lines_of(file: Path) -> Iterator[str]:
    try:
        with gzip.open(file, "rb") if file.suffix.lower() == ".gz" else file.open("rb") as content:
            check_text(content.peek(4), file)
            with io.TextIOWrapper(content, encoding="utf-8", errors="replace", newline="\n") as stream:
                yield from lines_within(stream, file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parse_table(file: Path, reading: _Reading) -> Iterator[Prompt]:
    def read(row: Row) -> Prompt:
        return Prompt(prompt_text(row, reading.ids), row.values.get("id"))

    rows = read_table(file, left_out=reading.left_out)
    yield from (found for found in usable(rows, read, reading.left_out) if not reading.is_skipped(found.text))


def _parse_lines(lines: Iterable[str], where: str, form: PromptFormat, reading: _Reading) -> Iterator[Prompt]:
    def numbered() -> Iterator[tuple[int, str]]:
        is_first = True
        for number, line in enumerate(lines, start=1):
            text = line.removesuffix("\n").removesuffix("\r")
            if number == 1:
                text = text.removeprefix(_BYTE_ORDER_MARK)
                # Standard input has been decoded already.
                is_utf_16 = text.startswith(_UTF_16_READ_AS_UTF_8) and "\0" in text
                check_text(_UTF_16_MARK if is_utf_16 else text[:4].encode("utf-8", "replace"), where)
            if reading.is_skipped(text):
                continue
            if is_first and form is PromptFormat.JSONL:
                check_json_lines(text, f"{where}, line {number}")
            is_first = False
            yield number, text

    def read(entry: tuple[int, str]) -> Prompt:
        number, text = entry
        is_text = form is PromptFormat.TEXT or (form is PromptFormat.AUTO and not text.lstrip().startswith("{"))
        if is_text or not text.strip():
            return Prompt(text)
        try:
            record = parse_json_line(text)
        except ValueError as error:
            if form is PromptFormat.AUTO and isinstance(error, json.JSONDecodeError):
                return Prompt(text)  # a prompt may begin with a brace
            raise DataError(
                f"{where}, line {number}: not valid JSON ({error}). Expected an object on each line; if these lines "
                "are plain prompts, say --format text"
            ) from error
        return _parse_record(record, Path(where), number, reading.ids)

    yield from usable(numbered(), read, reading.left_out)


def _parse_record(record: Any, where: Path, line: int, ids: Prompts | None) -> Prompt:
    row = Row(where, line, record if isinstance(record, dict) else {})
    if not has_prompt(row) and "prompt_id" not in row.values:
        raise row.error(
            "a JSON line needs `prompt` (text or a chat) or `messages` (a chat). "
            "If these lines are plain prompts, say --format text."
        )
    return Prompt(prompt_text(row, ids), _id_of(row))


def _id_of(row: Row) -> Any:
    """Return the id of a record, which is printed beside the answer. Raises DataError where JSON cannot hold it."""
    found = row.values.get("id")
    if not isinstance(found, (str, int)):
        try:
            json.dumps(found, allow_nan=False)
        except (ValueError, RecursionError):
            raise row.error("'id' must be a JSON value without NaN and Infinity, nested a few levels at most") from None
    return found
