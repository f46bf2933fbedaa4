"""Prompts from arguments, files or standard input, one at a time."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.prompt import text_of

_BYTE_ORDER_MARK: Final = "\ufeff"
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


def read_prompts(arguments: Sequence[str], file: Path | None, form: PromptFormat) -> Iterator[Prompt]:
    """Yield the arguments; or the lines of a file (.gz too), or of standard input. Memory stays constant.

    Raises:
        DataError: The file cannot be read, or a JSON line is no object with `prompt` or `messages`.
    """
    if arguments and file is not None:
        raise InvalidArgumentError("give prompts as arguments or in --file, not both")
    if arguments:
        yield from (Prompt(text) for text in arguments)
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
