"""Reads tables: CSV and JSON lines, plain or gzipped, and Parquet. Errors name the file and the line or row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import reprlib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast import parquet
from routellm_fast.errors import DataError

SUFFIXES: Final = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", parquet.SUFFIX)
# csv refuses fields beyond 128 KiB unless told otherwise; prompts are longer than that.
_MAX_FIELD_CHARACTERS: Final = 1 << 28
# Sums and squares of numbers up to this one stay finite.
_MAX_NUMBER: Final = 1e100


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        path: The file.
        line: Line on which the row begins, counted from 1. In files without lines (Parquet): the row, counted from 0.
        values: Cells by column name; str in CSV, any JSON value in JSON lines. An empty CSV cell is "".
        unit: What `line` counts: "line" or "row".
    """

    path: Path
    line: int
    values: Mapping[str, Any]
    unit: str = "line"

    def error(self, problem: str) -> DataError:
        """Return a DataError that names file and line."""
        return DataError(f"{self.path}, {self.unit} {self.line}: {problem}")

    def text(self, column: str) -> str:
        """Return a cell that must hold text. Raises DataError where the column is missing or the cell is not text."""
        if column not in self.values:
            raise self.error(f"there is no column {column!r}, only {', '.join(map(repr, self.values))}")
        value = self.values[column]
        if not isinstance(value, str):
            raise self.error(f"{column!r} must be text, found {value!r}")
        return value

    def number(self, column: str) -> float | None:
        """Return a cell as a finite number: True is 1, False is 0, an empty cell is None. Raises DataError else."""
        value = self.values.get(column)
        if value is None or value == "":
            return None
        if isinstance(value, str) and value in ("True", "False"):
            return float(value == "True")
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error(f"{column!r} must be a finite number, found {reprlib.repr(value)}")
        if abs(number) > _MAX_NUMBER:
            raise self.error(f"{column!r} must lie between -{_MAX_NUMBER:g} and {_MAX_NUMBER:g}, found {value!r}")
        return number


def check_name(path: Path) -> None:
    """Raise DataError unless the file's name has the ending of a table format that can be read."""
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path} must be a table: a file whose name ends with one of {', '.join(SUFFIXES)}")


def read_table(path: Path) -> Iterator[Row]:
    """Yield the rows of a file in order; there is at least one.

    CSV files begin with a header line; JSON lines hold one object per line. Text is UTF-8.

    Raises:
        DataError: The file cannot be read, has no rows, or one of them is damaged; the text names the line.
        MissingExtraError: The file is Parquet, and pyarrow is not installed.
    """
    check_name(path)
    empty = True
    for row in _parquet_rows(path) if path.suffix == parquet.SUFFIX else _text_rows(path):
        empty = False
        yield row
    if empty:
        raise DataError(f"{path} holds no rows")


def _parquet_rows(path: Path) -> Iterator[Row]:
    for first_row, batch in parquet.batches(path):
        for row, values in enumerate(batch.to_pylist(), start=first_row):
            yield Row(path, row, values, "row")


def _text_rows(path: Path) -> Iterator[Row]:
    parse = _csv_rows if ".csv" in path.suffixes[-2:] else _json_rows
    with _opened(path) as stream:
        yield from parse(path, stream)


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error


def _csv_rows(path: Path, stream: io.TextIOBase) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARACTERS))
    reader = csv.reader(stream, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: not valid CSV ({error})") from error
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = cells
            if len(set(header)) != len(header):
                raise DataError(f"{path}, line {line}: a column is named twice")
        elif len(cells) != len(header):
            raise DataError(f"{path}, line {line}: found {len(cells)} cells, expected {len(header)} as in the header")
        else:
            yield Row(path, line, dict(zip(header, cells, strict=True)))


def _json_rows(path: Path, stream: io.TextIOBase) -> Iterator[Row]:
    for line, text in enumerate(stream, start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {line}: not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {line}: must be a JSON object, found {type(values).__name__}")
        yield Row(path, line, values)
