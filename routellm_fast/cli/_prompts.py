"""Prompts from arguments, files or standard input, one at a time."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from select import select
from typing import Any, Final, NamedTuple

from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.prompt import text_of

_BYTE_ORDER_MARK: Final = "\ufeff"
_CHUNK_BYTES: Final = 1 << 16
# Its byte order mark, which is no UTF-8 either way round.
_UTF_16_READ_AS_UTF_8: Final = "\N{REPLACEMENT CHARACTER}" * 2


class PromptFormat(str, Enum):
    """How a line becomes a prompt."""

    AUTO = "auto"
    TEXT = "text"
    JSONL = "jsonl"


class Prompt(NamedTuple):
    """A prompt and, where its JSON line had one, its id."""

    text: str
    id: Any = None


class PipedLines:
    """The lines of a file descriptor as they come, of which one can ask whether the next is there."""

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
        """Return whether a line, or the end, can be had without waiting for longer than this many seconds."""
        return bool(self._lines) or self._has_ended or bool(select([self._descriptor], [], [], patience_s)[0])

    def _read(self) -> None:
        content = os.read(self._descriptor, _CHUNK_BYTES)
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
    """Yield the arguments; or the lines of a file (.gz too), or of standard input. Memory stays constant.

    Args:
        arguments: Prompts.
        file: A file of prompts; None for none.
        form: How lines become prompts.
        pipe: What reads standard input, where it is read; None for a reader of its own.

    Raises:
        DataError: The file cannot be read, or a JSON line is no object with `prompt` or `messages`.
    """
    if arguments and file is not None:
        raise InvalidArgumentError("give prompts as arguments or in --file, not both")
    if arguments:
        yield from (Prompt(text) for text in arguments)
    elif file is None and pipe is not None:
        yield from _parse_lines(pipe, "standard input", form)
    elif file is None:
        # Its own reader, since sys.stdin's encoding is the locale's; closing it must not close standard input itself.
        with open(sys.stdin.fileno(), encoding="utf-8", errors="replace", newline="\n", closefd=False) as stream:
            yield from _parse_lines(stream, "standard input", form)
    else:
        yield from _parse_lines(_lines_of(file), str(file), form)


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
                raise DataError(f"{where} is UTF-16: save it as UTF-8")
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
