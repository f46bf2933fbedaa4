"""Rows of a log as checked chunks, and what a router says of them, checked as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.names import spellings_of
from routellm_fast.data.prompts import text_in
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.streaming.rows import is_json_lines
from routellm_fast.evaluation.streaming.sketch import MAX_QUALITY
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.scoring import score_in_batches
from routellm_fast.tables import Row

OnBadRow = Literal["error", "skip"]
# Takes the reason for which a row is left out, and its error as text; None where that would say no more.
LeaveOut = Callable[[str, str | None], None]
CHUNK_ROWS: Final = 4096
# Why a row is left out, as the result counts it.
DAMAGED: Final = "damaged line"
NO_TEXT: Final = "no text for a prompt or domain"
NOT_RUN: Final = "one of the models was not run"
NO_COLUMN: Final = "no column of one of the models"
NO_NUMBER: Final = "a quality that is no number"
OUT_OF_RANGE: Final = "a quality out of range"
# The domain of rows whose cell is empty.
NO_DOMAIN: Final = "(none)"


@dataclass(frozen=True, slots=True)
class LogColumns:
    """Which columns of a log hold what.

    Attributes:
        strong: Quality of the strong model's answer; the column's name is taken for the model's.
        weak: The same for the weak model.
        prompt: The prompt.
        domain: What kind of prompt it is; None for a log of one kind.
    """

    strong: str
    weak: str
    prompt: str = "prompt"
    domain: str | None = None

    def __post_init__(self) -> None:
        """Refuse two roles for one column."""
        names = [name for name in (self.strong, self.weak, self.prompt, self.domain) if name is not None]
        if len(set(names)) != len(names) or not all(names):
            raise InvalidArgumentError(f"a log's columns must have different names, found {names}")


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Rows of a log, checked: prompts, both qualities, and domains where there are any."""

    prompts: list[str]
    qualities: list[tuple[float, float]]
    domains: list[str]


def check_options(on_bad_row: str, size: int) -> None:
    """Raise InvalidArgumentError for an option that does not exist, or a piece of nothing."""
    if on_bad_row not in ("error", "skip"):
        raise InvalidArgumentError(f"on_bad_row must be 'error' or 'skip', found {on_bad_row!r}")
    if size < 1:
        raise InvalidArgumentError(f"a chunk or part must hold something, found a size of {size}")


def checked(rows: Sequence[Row], columns: LogColumns, leave_out: LeaveOut, on_bad_row: OnBadRow) -> LogChunk:
    """Return the rows that can be used.

    Args:
        rows: Rows of a log.
        columns: Names of its columns.
        leave_out: Called with each row that is left out: one on which a model was not run, which is no error, and with
            on_bad_row="skip" one that is bad.
        on_bad_row: See evaluate_stream.

    Raises:
        DataError: A row is bad and on_bad_row is "error", or the file has no column of that name.
    """
    chunk = LogChunk([], [], [])
    for row in rows:
        try:
            prompt = text_in(row, columns.prompt)
            qualities = _quality(row, columns.strong), _quality(row, columns.weak)
            domain = None if columns.domain is None else _domain(row, columns.domain)
        except _NotRunError:
            leave_out(NOT_RUN, None)
            continue
        except _BadRowError as bad:
            if on_bad_row == "error":
                raise bad.error from None
            leave_out(bad.reason, str(bad.error))
            continue
        except DataError as error:
            if on_bad_row == "error":
                raise
            leave_out(NO_TEXT, str(error))
            continue
        chunk.prompts.append(prompt)
        chunk.qualities.append(qualities)
        if domain is not None:
            chunk.domains.append(domain)
    return chunk


class _NotRunError(Exception):
    """A row without a quality of one of the models, which is no error: the model was not run on the prompt."""


class _BadRowError(Exception):
    """A row without a usable quality, with the reason that is counted."""

    def __init__(self, reason: str, error: DataError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def _quality(row: Row, column: str) -> float:
    """Return the quality in a column, which may have another spelling of the model's name.

    An empty cell, and in JSON lines a missing one, says that the model was not run. Raises _NotRunError, _BadRowError.
    """
    if column not in row.values:
        found = spellings_of(column, row.values)
        if len(found) != 1:
            if is_json_lines(row.path):
                raise _NotRunError
            problem = f"there is no column {column!r}, only {', '.join(map(repr, row.values))}"
            raise _BadRowError(NO_COLUMN, row.error(problem))
        column = found[0]
    try:
        quality = row.number(column)
    except DataError as error:
        raise _BadRowError(NO_NUMBER, error) from error
    if quality is None:
        raise _NotRunError
    if abs(quality) > MAX_QUALITY:
        problem = f"{column!r} must lie between -{MAX_QUALITY:g} and {MAX_QUALITY:g}, found {quality:g}: scale it down"
        raise _BadRowError(OUT_OF_RANGE, row.error(problem))
    return quality


def _domain(row: Row, column: str) -> str:
    """Return the domain of a row: one name for all rows whose cell is empty. Raises DataError without the column."""
    if column not in row.values:
        return row.text(column)  # which says so
    return NO_DOMAIN if row.values[column] in (None, "") else str(row.values[column])


def checked_win_rates(name: str, router: Scorer, prompts: Sequence[str]) -> NDArray[np.float32]:
    """Return (n,) win rates of a router. Raises InvalidArgumentError where they are not n numbers in [0, 1]."""
    win_rates = score_in_batches(router.win_rates, prompts, batch=CHUNK_ROWS, name=f"router {name!r}")
    outside = np.flatnonzero(~((win_rates >= 0.0) & (win_rates <= 1.0)))
    if len(outside):
        raise InvalidArgumentError(
            f"router {name!r} gave {win_rates[outside[0]]} for the prompt {prompts[outside[0]][:60]!r}; a log can be "
            "read once only, so expected win rates in [0, 1]"
        )
    # float64 routers may differ between machines in bits that float32 routers do not have.
    return win_rates.astype(np.float32)
