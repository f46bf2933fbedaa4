"""Win rates of a log, written beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from routellm_fast.data.prompts import text_in
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.streaming.chunks import CHUNK_ROWS, OnBadRow, check_options, checked_win_rates
from routellm_fast.evaluation.streaming.rows import LogPart, read_part
from routellm_fast.evaluation.streaming.writer import log_writer
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.tables import Row


def score_log(
    router: Scorer,
    source: Path,
    out: Path,
    *,
    prompt: str = "prompt",
    keep: Sequence[str] | None = None,
    on_bad_row: OnBadRow = "error",
    chunk_rows: int = CHUNK_ROWS,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Write the win rate of every prompt of a log, in its order, in constant memory.

    Args:
        router: Scores the prompts.
        source: CSV or JSON lines, gzipped or not, or Parquet.
        out: File to write, in one of the same formats. It holds the columns to keep, as text, and `win_rate`, and
            appears whole or not at all.
        prompt: Column of the prompt.
        keep: Columns to copy, e.g. an id; None for the prompt.
        on_bad_row: "skip" leaves out and counts rows without a prompt or a column to keep, and damaged lines.
        chunk_rows: How many prompts are scored at a time.
        on_progress: Called with the number of rows written so far.

    Returns:
        How many rows were written, and how many left out.

    Raises:
        DataError: A row is bad and on_bad_row is "error"; the source cannot be read or the output not written.
        InvalidArgumentError: A column to keep is named `win_rate`; the output is the source; a win rate is no number in
            [0, 1].
    """
    check_options(on_bad_row, chunk_rows)
    if out.exists() and source.exists() and out.samefile(source):
        raise InvalidArgumentError(f"{out} is the log itself: name another file for the win rates")
    columns = [prompt] if keep is None else list(keep)
    left_out: list[int] = [0]

    def count(_: DataError) -> None:
        left_out[0] += 1

    on_damage = None if on_bad_row == "error" else count
    rows = read_part(LogPart(source), on_damage=on_damage)
    written = 0
    with log_writer(out, columns) as write:
        while batch := list(islice(rows, chunk_rows)):
            prompts: list[str] = []
            cells: list[list[str]] = []
            for row in batch:
                try:
                    found = text_in(row, prompt), [_cell(row, column) for column in columns]
                except DataError as error:
                    if on_damage is None:
                        raise
                    on_damage(error)
                    continue
                prompts.append(found[0])
                cells.append(found[1])
            if prompts:
                write(cells, checked_win_rates("given", router, prompts))
            written += len(prompts)
            if on_progress is not None:
                on_progress(written)
    return written, left_out[0]


def _cell(row: Row, column: str) -> str:
    if column not in row.values:
        raise row.error(f"there is no column {column!r}, only {', '.join(map(repr, row.values))}")
    value = row.values[column]
    if value is None:
        return ""  # an empty cell, as readers of tables know it
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
