"""Reads tables: CSV and JSON lines, plain or gzipped, and Parquet. Errors name the file and the line or row.

The rules for what other programs write are here, so that they are the same for every reader: the endings of file names
in small or capital letters, the encoding, the separator of CSV, blank lines, empty cells, and words for true and false.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import math
import re
import reprlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from routellm_fast import parquet
from routellm_fast.errors import DataError

Form = Literal["csv", "jsonl", "parquet"]
_FORMS: Final[Mapping[str, Form]] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    parquet.SUFFIX: "parquet",
}
SUFFIXES: Final = tuple(_FORMS)
# The longest line, and the longest cell of CSV, which may have many lines. A stream without line ends would fill the
# memory. (csv itself refuses fields beyond 128 KiB unless told otherwise; prompts are longer than that.)
MAX_LINE_CHARACTERS: Final = 1 << 26
TOO_LONG: Final = (
    f"no line end within {MAX_LINE_CHARACTERS:,} characters (64 MiB of ASCII), which is the longest line that is read: "
    "put each row or prompt on a line of its own"
)
# Sums and squares of numbers up to this one stay finite.
_MAX_NUMBER: Final = 1e100
_TRUE_AND_FALSE: Final = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_MISSING_WORDS: Final = ("nan", "na", "n/a", "null", "none", "-")
_SEPARATORS: Final = (",", ";", "\t")
_UTF_16: Final = "is UTF-16, expected UTF-8: save it as UTF-8"
_UTF_32: Final = "is UTF-32, expected UTF-8: save it as UTF-8"
# How files of other kinds begin, and what they are.
_SIGNATURES: Final = {
    b"\xff\xfe\0\0": _UTF_32,
    b"\0\0\xfe\xff": _UTF_32,
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"\x1f\x8b": "is compressed by gzip, but its name does not end with .gz: rename it",
    b"PK\x03\x04": "is a workbook or a zip archive, expected text: save it as CSV in UTF-8",
    b"PAR1": f"is Parquet, but its name does not end with {parquet.SUFFIX}: rename it",
}
_LONGEST_SIGNATURE: Final = 4
# How many of the rows that cannot be read are named.
_MOST_NAMED: Final = 10
_R = TypeVar("_R")
_T = TypeVar("_T")


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
            raise self.error(f"{column!r} must be text, found {reprlib.repr(value)}")
        return value

    def is_empty(self, column: str) -> bool:
        """Say whether the row has nothing in a column: no such column, null, or text of white space only."""
        value = self.values.get(column)
        return value is None or (isinstance(value, str) and not value.strip())

    def number(self, column: str) -> float | None:
        """Return a cell as a finite number; None where it is empty, which means that a model was not run.

        `true` and `yes` are 1, `false` and `no` are 0, in small or capital letters. Raises DataError for anything else.
        """
        value = self.values.get(column)
        if self.is_empty(column):
            return None
        if isinstance(value, str) and (known := _TRUE_AND_FALSE.get(value.strip().lower())) is not None:
            return known
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error(f"{column!r} must be a finite number, found {reprlib.repr(value)}{_advice(value)}")
        if abs(number) > _MAX_NUMBER:
            raise self.error(f"{column!r} must lie between -{_MAX_NUMBER:g} and {_MAX_NUMBER:g}, found {value!r}")
        return number


@dataclass(slots=True)
class LeftOut:
    """What readers leave out of files, for a caller that goes on without it and says so.

    Readers take one as their argument `left_out`. Without one, or with one that is strict, a row that cannot be read
    raises its DataError.

    Attributes:
        strict: Whether a row that cannot be read raises.
        say: Called with a line of text for each of the first ten rows that cannot be read; None for nobody.
        rows: Number of rows that could not be read.
        named: The errors of the first ten of them, which name file, line and problem.
        blank: Number of blank lines in files of prompts.
        columns: Names of the columns that were not taken for models, by the file of golden labels.
    """

    strict: bool = False
    say: Callable[[str], None] | None = None
    rows: int = 0
    named: list[str] = field(default_factory=list)
    blank: int = 0
    columns: dict[Path, tuple[str, ...]] = field(default_factory=dict)

    def add(self, error: DataError) -> None:
        """Count a row that cannot be read. Raises the error where this is strict."""
        if self.strict:
            raise error
        self.rows += 1
        if len(self.named) < _MOST_NAMED:
            self.named.append(str(error))
            if self.say is not None:
                self.say(f"left out: {error}")


def usable(rows: Iterable[_R], read: Callable[[_R], _T], left_out: LeftOut | None) -> Iterator[_T]:
    """Yield what `read` makes of each row, and give the rows for which it raises DataError to `left_out`.

    Raises:
        DataError: A row cannot be read and left_out is None or strict; or none of the rows can be read.
    """
    # Until a row can be read: the errors of the first ones, and the number of the others. Then left_out takes them.
    refused: list[DataError] = []
    unnamed = 0
    any_read = False
    for row in rows:
        try:
            found = read(row)
        except DataError as error:
            if left_out is None or left_out.strict:
                raise
            if any_read:
                left_out.add(error)
            elif len(refused) < _MOST_NAMED:
                refused.append(error)
            else:
                unnamed += 1
            continue
        if not any_read:
            any_read = True
            if left_out is not None:
                _hand_over(refused, unnamed, left_out)
        yield found
    if not any_read and refused:
        raise _none_usable(refused[0], len(refused) + unnamed)


def _hand_over(refused: list[DataError], unnamed: int, left_out: LeftOut) -> None:
    for error in refused:
        left_out.add(error)
    left_out.rows += unnamed
    refused.clear()


def _none_usable(first: DataError, count: int) -> DataError:
    if count == 1:
        return first
    return DataError(f"{first}. None of the {count:,} rows can be read; this is what the first lacks")


def form_of(path: Path) -> Form | None:
    """Return the format of a table by the ending of its name, in small or capital letters; None for any other name."""
    name = path.name.lower()
    return next((form for suffix, form in _FORMS.items() if name.endswith(suffix)), None)


def check_name(path: Path) -> None:
    """Raise DataError unless the file's name has the ending of a table format that can be read."""
    if form_of(path) is None:
        raise DataError(
            f"{path} must be a table: a file whose name ends with one of {', '.join(SUFFIXES)}. Text that is separated "
            "by tabs or semicolons is CSV too"
        )


def check_text(start: bytes, where: object) -> None:
    """Raise DataError where a file that should be text in UTF-8 begins as a file of another kind does.

    Args:
        start: The first bytes of the file, four or more unless it is shorter.
        where: What to call the file.
    """
    for signature, problem in _SIGNATURES.items():
        if start.startswith(signature):
            raise DataError(f"{where} {problem}")
    first = start[:_LONGEST_SIGNATURE]
    if b"\0" in first:
        # A letter of Latin script takes two bytes in UTF-16, one of which is NUL.
        even, odd = first[::2], first[1::2]
        if odd and (not any(even) or not any(odd)) and any(first):
            raise DataError(f"{where} {_UTF_16}")
        raise DataError(
            f"{where} has a NUL byte among its first {_LONGEST_SIGNATURE}, so it is no text in UTF-8: save it as UTF-8 "
            "if it is text in another encoding"
        )


def lines_within(stream: io.TextIOBase, where: object) -> Iterator[str]:
    """Yield the lines of a text with their ends. Raises DataError where a line is longer than MAX_LINE_CHARACTERS.

    Args:
        stream: The text.
        where: What to call it.
    """
    for number in itertools.count(1):
        line = stream.readline(MAX_LINE_CHARACTERS + 1)
        if not line:
            return
        if len(line) > MAX_LINE_CHARACTERS:
            raise too_long(where, number)
        yield line


def too_long(where: object, number: int) -> DataError:
    """Return the error for a line that is longer than MAX_LINE_CHARACTERS."""
    return DataError(f"{where}, line {number}: {TOO_LONG}")


def parse_json_line(text: str) -> Any:
    """Return the JSON value that a line holds.

    Raises:
        json.JSONDecodeError: The text is not JSON.
        ValueError: It is JSON that cannot be taken: an object has a key twice, a number has thousands of digits, or
            values are nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply to be read") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {reprlib.repr(twice)} twice: which of the two is meant?")
    return found


def check_json_lines(first: str, where: object) -> None:
    """Raise DataError where a file that should hold an object on each line begins as one list of objects does.

    Args:
        first: The first line that is not blank.
        where: What to call the file and the line.
    """
    if first.lstrip().startswith("["):
        raise DataError(
            f"{where}: must be a JSON object, found the beginning of a list. Write one object on each line, without "
            "the brackets and commas of the list"
        )


def read_table(path: Path, *, left_out: LeftOut | None = None) -> Iterator[Row]:
    """Yield the rows of a file in order; there is at least one.

    CSV files begin with a header line; what separates their cells (commas, semicolons or tabs) is what first separates
    the header's. A cell of the header without a name is called `Unnamed: N` by its place, counted from 0, as pandas
    calls it. JSON lines hold one object per line. Text is UTF-8. Blank lines, and rows of empty cells only, are
    skipped.

    Args:
        path: The file.
        left_out: Takes the lines that are no row: JSON that is no object, or another number of cells than the header
            has. None raises.

    Raises:
        DataError: The file cannot be read, has no rows, or one of them is damaged; the text names the line.
        MissingExtraError: The file is Parquet, and pyarrow is not installed.
    """
    check_name(path)
    empty = True
    rows = _parquet_rows(path) if form_of(path) == "parquet" else usable(_text_rows(path), _intact, left_out)
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"{path} holds no rows")


def _intact(row: Row | DataError) -> Row:
    if isinstance(row, DataError):
        raise row
    return row


def _parquet_rows(path: Path) -> Iterator[Row]:
    for first_row, batch in parquet.batches(path):
        for row, values in enumerate(batch.to_pylist(), start=first_row):
            yield Row(path, row, values, "row")


def _text_rows(path: Path) -> Iterator[Row | DataError]:
    """Yield rows, and an error in the place of a line that is no row."""
    parse = _csv_rows if form_of(path) == "csv" else _json_rows
    with _opened(path) as stream:
        yield from parse(path, stream)


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            check_text(file.peek(_LONGEST_SIGNATURE), path)
            yield io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error})") from error


def _csv_rows(path: Path, stream: io.TextIOBase) -> Iterator[Row | DataError]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARACTERS))
    # The csv module of Python 3.10 refuses zero characters, which a prompt may hold.
    lines = (line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in lines_within(stream, path))
    begin = _with_first_text(lines)
    separator = _separator(begin[-1]) if begin else ","
    reader = csv.reader(itertools.chain(begin, lines), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}, line {line}: not valid CSV ({_quote_problem(error)})") from error
        if cells is None:
            return
        if header is None:
            if any(map(str.strip, cells)):
                header = _header(path, line, cells)
        elif len(cells) == len(header):
            if len(header) == 1 or any(cells):
                yield Row(path, line, dict(zip(header, cells, strict=True)))
        elif any(map(str.strip, cells)):
            between = "" if separator == "," else f" (between them stands {separator!r})"
            yield DataError(
                f"{path}, line {line}: found {len(cells)} cells, expected {len(header)} as in the header{between}"
            )


def _quote_problem(error: csv.Error) -> str:
    """Return what is wrong with a row and what to do. The rest of a file cannot be read: cells may hold line breaks."""
    problem = str(error)
    if "end of data" in problem:
        return (
            "a quote that opens a cell of this row is never closed, so the row reaches to the end of the file: close "
            'it. A cell that begins with a quote of its own is written """..."'
        )
    if "field limit" in problem:
        return (
            f"a cell of this row has more than {MAX_LINE_CHARACTERS:,} characters, which is the most that is read. Is "
            "the quote that opens it never closed?"
        )
    return (
        f"{problem}: text follows the quote that closes a cell of this row. Within quotes, a quote is written twice: "
        '"He said ""no"""'
    )


def _with_first_text(lines: Iterable[str]) -> list[str]:
    """Return the lines up to the first one that is not blank."""
    begin: list[str] = []
    for line in lines:
        begin.append(line)
        if line.strip():
            break
    return begin


def _separator(header: str) -> str:
    """Return what separates the cells of a header: the first of comma, semicolon and tab outside of quotes."""
    bare = re.sub(r'"(?:[^"]|"")*"', "", header)
    return next((character for character in bare if character in _SEPARATORS), ",")


def _header(path: Path, line: int, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() or f"Unnamed: {index}" for index, cell in enumerate(cells)]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path}, line {line}: a column is named twice ({twice!r})")
    return names


def _json_rows(path: Path, stream: io.TextIOBase) -> Iterator[Row | DataError]:
    is_first = True
    for line, text in enumerate(lines_within(stream, path), start=1):
        if not text.strip():
            continue
        if is_first:
            check_json_lines(text, f"{path}, line {line}")
            is_first = False
        try:
            values = parse_json_line(text)
        except ValueError as error:
            yield DataError(f"{path}, line {line}: not valid JSON ({error})")
            continue
        if isinstance(values, dict):
            yield Row(path, line, values)
        else:
            yield DataError(f"{path}, line {line}: must be a JSON object, found {type(values).__name__}")


def csv_writer(stream: Any) -> Callable[[Sequence[object]], None]:
    """Return a function that writes a row of CSV which read_table reads as the same cells; the first is the header.

    Cells are separated by commas and quoted where they have to be. Python's own writer leaves two cases bare which its
    reader, or this one, takes for something else: a carriage return in a cell, and a semicolon or tab in the header.
    """
    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    special = "\r;\t"

    def write(cells: Sequence[object]) -> None:
        nonlocal special
        needs_quotes = any(isinstance(cell, str) and any(mark in cell for mark in special) for cell in cells)
        (quoted if needs_quotes else plain).writerow(cells)
        special = "\r"

    return write


def _advice(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    if value.strip().lower() in _MISSING_WORDS:
        return ". Leave the cell empty where there is no number"
    return ". Write decimals with a point" if re.fullmatch(r"\s*-?\d+,\d+\s*", value) else ""
