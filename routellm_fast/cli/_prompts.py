"""Reads prompts from arguments, files or standard input, one at a time."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from select import select
from typing import Any, Final, NamedTuple

import typer

from routellm_fast.cli._progress import working
from routellm_fast.cli._streams import input_descriptor, is_typed
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.prompt import text_of

_BYTE_ORDER_MARK: Final = "\ufeff"
_CHUNK_BYTES: Final = 1 << 16
# How the byte order mark of UTF-16, in either byte order, reads as UTF-8.
_UTF_16_READ_AS_UTF_8: Final = "\N{REPLACEMENT CHARACTER}" * 2


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
        self._has_ended = False

    def __iter__(self) -> Iterator[str]:
        """Yield each line with its line end, as text; bytes that are no UTF-8 become U+FFFD."""
        while self._lines or not self._has_ended:
            if self._lines:
                yield self._lines.popleft().decode("utf-8", "replace")
            else:
                self._read()

    def is_at_hand(self, patience_s: float) -> bool:
        """Return whether the next line, or the end, arrives within this many seconds."""
        return bool(self._lines) or self._has_ended or bool(select([self._descriptor], [], [], patience_s)[0])

    def _read(self) -> None:
        try:
            content = os.read(self._descriptor, _CHUNK_BYTES)
        except OSError as error:
            raise _unreadable_input(error) from error
        *lines, rest = content.split(b"\n")
        for line in lines:
            self._lines.append(b"".join((*self._rest, line, b"\n")))
            self._rest = []
        if rest:
            self._rest.append(rest)
        if not content:
            self._has_ended = True
            if self._rest:
                self._lines.append(b"".join(self._rest))


def read_prompts(
    arguments: Sequence[str], file: Path | None, form: PromptFormat, pipe: PipedLines | None = None
) -> Iterator[Prompt]:
    """Yield prompts from the arguments, else from a file (also .gz), else from standard input, in constant memory.

    Args:
        arguments: Prompts.
        file: A file with a prompt on each line; None for none.
        form: How lines become prompts.
        pipe: The reader of standard input; None makes one.

    Raises:
        InvalidArgumentError: There are both arguments and a file.
        DataError: The file cannot be read, or a JSON line is no object with `prompt` or `messages`.
    """
    if arguments and file is not None:
        raise InvalidArgumentError("give prompts as arguments or in --file, not both")
    if arguments:
        yield from (Prompt(text) for text in arguments)
    elif file is None:
        _say_what_is_waited_for()
        yield from _parse_lines(pipe or _input_lines(), "standard input", form)
    else:
        yield from _parse_lines(_lines_of(file), str(file), form)


def _say_what_is_waited_for() -> None:
    if is_typed():
        working("")
        typer.echo("routellm-fast: type a prompt and press Enter for each; Ctrl-D ends the input", err=True)
    else:
        working("waiting for prompts on standard input")


def _input_lines() -> Iterator[str]:
    try:
        # A reader of its own, since sys.stdin has the encoding of the locale. Closing it must not close standard input.
        with open(input_descriptor(), encoding="utf-8", errors="replace", newline="\n", closefd=False) as stream:
            yield from stream
    except OSError as error:
        raise _unreadable_input(error) from error


def _unreadable_input(error: OSError) -> DataError:
    return DataError(f"standard input cannot be read ({error.strerror or error})")


def _lines_of(file: Path) -> Iterator[str]:
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8", errors="replace", newline="\n") as stream:
            yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parse_lines(lines: Iterable[str], where: str, form: PromptFormat) -> Iterator[Prompt]:
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix("\n").removesuffix("\r")
        if number == 1:
            text = text.removeprefix(_BYTE_ORDER_MARK)
            if text.startswith(_UTF_16_READ_AS_UTF_8) and "\0" in text:
                raise DataError(f"{where} is UTF-16, expected UTF-8: save it as UTF-8")
        if form is PromptFormat.TEXT or (form is PromptFormat.AUTO and not text.lstrip().startswith("{")):
            yield Prompt(text)
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            if form is PromptFormat.AUTO:
                yield Prompt(text)  # a prompt may begin with a brace
                continue
            raise DataError(f"{where}, line {number}: not valid JSON ({error})") from error
        yield _parse_record(record, f"{where}, line {number}")


def _parse_record(record: Any, where: str) -> Prompt:
    if isinstance(record, dict) and isinstance(record.get("prompt"), str):
        return Prompt(record["prompt"], record.get("id"))
    if isinstance(record, dict) and "messages" in record:
        try:
            return Prompt(text_of(record["messages"]), record.get("id"))
        except InvalidArgumentError as error:
            raise DataError(f"{where}: {error}") from error
    raise DataError(
        f"{where}: a JSON line needs `prompt` (a string) or `messages` (a chat). "
        "If these lines are plain prompts, say --format text."
    )
