"""A prompt log, row by row, also from the middle of a file."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import DataError
from routellm_fast.extras import require
from routellm_fast.tables import (
    MAX_LINE_CHARACTERS,
    TOO_LONG,
    Row,
    check_name,
    check_text,
    form_of,
    parse_json_line,
    read_table,
)

_BATCH_ROWS: Final = 1024
_BUFFER_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class LogPart:
    """A piece of a log file that can be read without the others.

    Attributes:
        path: The file.
        start: First byte of JSON lines, first row group of Parquet; 0 for files that are read as a whole.
        stop: Behind the last one; None for the end of the file.
    """

    path: Path
    start: int = 0
    stop: int | None = None


def is_json_lines(path: Path) -> bool:
    """Whether a file has one JSON object on each line, so that a row may lack what other rows have."""
    return form_of(path) == "jsonl"


def log_parts(path: Path, *, part_bytes: int) -> list[LogPart]:
    """Cut a file into pieces of about this size where its format allows.

    JSON lines are cut anywhere (a line belongs to the piece in which it begins), Parquet between row groups. CSV cannot
    be cut, since a line break may stand inside a cell, nor can compressed files.

    Raises:
        DataError: The file cannot be read, or is of no known format.
        MissingExtraError: pyarrow is not installed and the file is Parquet.
    """
    check_name(path)
    if path.name.lower().endswith(".jsonl"):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _unreadable(path, error) from error
        starts = range(0, max(size, 1), part_bytes)
        return [LogPart(path, start, start + part_bytes) for start in starts]
    if form_of(path) == "parquet":
        with _parquet(path) as file:
            sizes = [file.metadata.row_group(index).total_byte_size for index in range(file.num_row_groups)]
        return [LogPart(path, start, stop) for start, stop in _runs(sizes, part_bytes)]
    return [LogPart(path)]


def read_part(part: LogPart, *, on_damage: Callable[[DataError], None] | None = None) -> Iterator[Row]:
    """Yield the rows of a piece. Memory stays constant.

    Args:
        part: The piece of a file to read.
        on_damage: Called with each line that is no JSON object, which is then left out; None raises it. Damaged CSV and
            Parquet always raise: after a broken quote or page nothing that follows can be trusted.

    Raises:
        DataError: The file cannot be read or is damaged; the text names the line.
    """
    check_name(part.path)
    if form_of(part.path) == "parquet":
        yield from _parquet_rows(part)
    elif is_json_lines(part.path):
        yield from _json_rows(part, on_damage)
    else:
        yield from read_table(part.path)


@dataclass(frozen=True, slots=True)
class _CutRow(Row):
    """A JSON line met in the middle of a file: its line is counted when an error has to name it, and then only."""

    offset: int = 0

    def error(self, problem: str) -> DataError:
        """Return a DataError that names file and line."""
        return DataError(f"{self.path}, line {_line_at(self.path, self.offset)}: {problem}")


def _json_rows(part: LogPart, on_damage: Callable[[DataError], None] | None) -> Iterator[Row]:
    try:
        with _opened(part.path) as file:
            if not part.start:
                check_text(file.peek(4), part.path)
            else:
                # The line that reaches into this piece belongs to the one before.
                file.seek(part.start - 1)
                while (piece := file.readline(_BLOCK_BYTES)) and not piece.endswith(b"\n"):
                    pass
            offset = begin = file.tell()
            while line := file.readline(MAX_LINE_CHARACTERS + 1):
                begin, offset = offset, offset + len(line)
                if part.stop is not None and begin >= part.stop:
                    break
                if len(line) > MAX_LINE_CHARACTERS:
                    raise _CutRow(part.path, 0, {}, offset=begin).error(TOO_LONG)
                if not line.strip():
                    continue
                try:
                    values = parse_json_line(line.decode("utf-8" if begin else "utf-8-sig"))
                    problem = (
                        "" if isinstance(values, dict) else f"must be a JSON object, found {type(values).__name__}"
                    )
                except ValueError as error:
                    values, problem = {}, f"not valid JSON ({error})"
                row = _CutRow(part.path, 0, values, offset=begin)
                if not problem:
                    yield row
                elif on_damage is None:
                    raise row.error(problem)
                else:
                    on_damage(row.error(problem))
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(part.path, error) from error


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _line_at(path: Path, offset: int) -> int:
    line = 1
    with _opened(path) as file:
        while offset > 0 and (block := file.read(min(_BLOCK_BYTES, offset))):
            line += block.count(b"\n")
            offset -= len(block)
    return line


def _parquet_rows(part: LogPart) -> Iterator[Row]:
    pyarrow = require("pyarrow", "parquet")
    with _parquet(part.path) as file:
        groups = range(part.start, file.num_row_groups if part.stop is None else part.stop)
        number = sum(file.metadata.row_group(index).num_rows for index in range(part.start))
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=list(groups)):
                for values in batch.to_pylist():
                    yield Row(part.path, number, values, "row")
                    number += 1
        except (OSError, pyarrow.ArrowException) as error:
            raise _unreadable(part.path, error) from error


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    pyarrow = require("pyarrow", "parquet")
    try:
        # Buffered by the row group, as is pyarrow's default, a file of one group would be in memory whole.
        file = require("pyarrow.parquet", "parquet").ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error
    with file:
        yield file


def _runs(sizes: Iterable[int], part_bytes: int) -> Iterator[tuple[int, int]]:
    """Neighbouring row groups that together hold about this much; at least one run, for an empty file too."""
    start, held, stop = 0, 0, 0
    for size in sizes:
        if held and held + size > part_bytes:
            yield start, stop
            start, held = stop, 0
        held += size
        stop += 1
    yield start, stop


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{path} cannot be read ({reason})")
