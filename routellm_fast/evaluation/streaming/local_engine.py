"""Evaluation of a prompt log in this process: rows are read, scored and summed in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from routellm_fast.errors import DataError
from routellm_fast.evaluation.streaming.chunks import (
    CHUNK_ROWS,
    DAMAGED,
    LogColumns,
    OnBadRow,
    check_options,
    checked,
)
from routellm_fast.evaluation.streaming.quality import StreamedQuality
from routellm_fast.evaluation.streaming.rows import LogPart, read_part
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.tables import Row


def evaluate_stream(
    routers: Mapping[str, Scorer],
    rows: Iterable[Row],
    columns: LogColumns,
    *,
    on_bad_row: OnBadRow = "error",
    chunk_rows: int = CHUNK_ROWS,
    into: StreamedQuality | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> StreamedQuality:
    """Evaluate routers on rows, each of which is looked at once.

    Args:
        routers: Routers by the name that results show: anything whose win_rates lie in [0, 1].
        rows: The rows of a log.
        columns: Names of the columns that hold the prompt, both qualities and the domain.
        on_bad_row: "skip" leaves out and counts a row whose prompt is no text or whose quality is no number. A row on
            which one of the models was not run (an empty cell; in JSON lines a missing one too) is always left out and
            counted.
        chunk_rows: How many prompts are scored at a time; the result does not depend on it.
        into: The result to add these rows to; None starts an empty one.
        on_progress: Called with the number of rows taken in so far.

    Raises:
        DataError: A row is bad and on_bad_row is "error", or rows themselves fail; the text names file and line.
        InvalidArgumentError: A router gave something else than one win rate in [0, 1] a prompt.
    """
    check_options(on_bad_row, chunk_rows)
    found = StreamedQuality.of(routers, columns) if into is None else into
    iterator = iter(rows)
    while batch := list(islice(iterator, chunk_rows)):
        found.add(checked(batch, columns, found.leave_out, on_bad_row), routers)
        if on_progress is not None:
            on_progress(found.rows)
    return found


def evaluate_log(
    routers: Mapping[str, Scorer],
    files: Sequence[Path],
    columns: LogColumns,
    *,
    on_bad_row: OnBadRow = "error",
    on_progress: Callable[[int], None] | None = None,
) -> StreamedQuality:
    """Evaluate routers on the rows of files: CSV or JSON lines, gzipped or not, or Parquet. See evaluate_stream.

    With on_bad_row="skip" a line that is no JSON object is left out and counted, too.

    Raises:
        DataError: See evaluate_stream; or no file holds a row that could be used.
    """
    found = StreamedQuality.of(routers, columns)
    for path in files:
        rows = rows_of(LogPart(path), found, on_bad_row)
        evaluate_stream(routers, rows, columns, on_bad_row=on_bad_row, into=found, on_progress=on_progress)
    check_rows(found, files)
    return found


def rows_of(part: LogPart, found: StreamedQuality, on_bad_row: OnBadRow) -> Iterator[Row]:
    """Return the rows of a piece of a log, damaged lines counted where they are to be skipped."""
    if on_bad_row == "error":
        return read_part(part)
    return read_part(part, on_damage=lambda error: found.leave_out(DAMAGED, str(error)))


def check_rows(found: StreamedQuality, files: Sequence[Path]) -> None:
    """Raise DataError where nothing was taken in."""
    if found.rows:
        return
    counts = "; ".join(f"rows left out: {count:,} ({reason})" for reason, count in sorted(found.bad_rows.items()))
    examples = f", such as {'; '.join(found.examples)}" if found.examples else ""
    where = ", ".join(map(str, files)) or "the log"
    raise DataError(
        f"{where} holds no row with a prompt and qualities of {found.columns.strong!r} and {found.columns.weak!r}: "
        f"{counts or 'no rows'}{examples}{_columns_of(files)}"
    )


def _columns_of(files: Sequence[Path]) -> str:
    """Return, for an error's text, which columns the first row has."""
    row = next((row for path in files for row in read_part(LogPart(path), on_damage=lambda _: None)), None)
    return "" if row is None else f". The first row has the columns {', '.join(map(repr, row.values))}"
