"""Win rates into a table, row by row, that appears whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.atomic import replaced_file
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.tables import check_name, csv_writer, form_of

WIN_RATE: Final = "win_rate"

WriteRows = Callable[[Sequence[Sequence[str]], NDArray[np.float32]], None]


@contextmanager
def log_writer(path: Path, columns: Sequence[str]) -> Iterator[WriteRows]:
    """Yield a function that writes rows: cells of the columns, and their win rates.

    Raises:
        DataError: The file cannot be written, or its format is not known.
        InvalidArgumentError: A column is named twice, or `win_rate`.
        MissingExtraError: pyarrow is not installed and the file is Parquet.
    """
    check_name(path)
    if len({*columns, WIN_RATE}) != len(columns) + 1:
        raise InvalidArgumentError(
            f"columns to keep must differ from one another and from {WIN_RATE!r}, found {list(columns)}"
        )
    form = {"parquet": _parquet, "csv": _csv}.get(form_of(path) or "", _json_lines)
    try:
        with (
            replaced_file(path) as plain,
            _packed(plain, compressed=path.suffix.lower() == ".gz") as file,
            form(file, columns) as write,
        ):
            yield write
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error})") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{path} cannot be written: a cell is no Unicode ({error}); JSON lines can hold it") from error


@contextmanager
def _packed(file: BinaryIO, *, compressed: bool) -> Iterator[Any]:
    if not compressed:
        yield file
        return
    # Neither name nor time in the header: equal logs give equal bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
        yield packed


@contextmanager
def _csv(file: Any, columns: Sequence[str]) -> Iterator[WriteRows]:
    stream = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_row = csv_writer(stream)
    write_row([*columns, WIN_RATE])

    def write(rows: Sequence[Sequence[str]], win_rates: NDArray[np.float32]) -> None:
        for cells, rate in zip(rows, win_rates, strict=True):
            write_row([*cells, _shortest(rate)])

    try:
        yield write
    finally:
        # The file is the caller's to close, which the wrapper would do.
        stream.detach()


@contextmanager
def _json_lines(file: Any, columns: Sequence[str]) -> Iterator[WriteRows]:
    def write(rows: Sequence[Sequence[str]], win_rates: NDArray[np.float32]) -> None:
        for cells, rate in zip(rows, win_rates, strict=True):
            record = {**dict(zip(columns, cells, strict=True)), WIN_RATE: float(_shortest(rate))}
            # A lone surrogate, which JSON can hold, has no UTF-8: escape what is not ASCII only then.
            line = json.dumps(record, ensure_ascii=not all(map(_has_utf8, cells)))
            file.write(f"{line}\n".encode())

    yield write


@contextmanager
def _parquet(file: Any, columns: Sequence[str]) -> Iterator[WriteRows]:
    pyarrow = require("pyarrow", "parquet")
    fields = [pyarrow.field(column, pyarrow.string()) for column in columns]
    schema = pyarrow.schema([*fields, pyarrow.field(WIN_RATE, pyarrow.float32())])
    with require("pyarrow.parquet", "parquet").ParquetWriter(file, schema) as writer:

        def write(rows: Sequence[Sequence[str]], win_rates: NDArray[np.float32]) -> None:
            cells = [pyarrow.array(column, pyarrow.string()) for column in zip(*rows, strict=True)]
            writer.write_batch(pyarrow.record_batch([*cells, pyarrow.array(win_rates)], schema=schema))

        yield write


def _shortest(rate: np.float32) -> str:
    """The fewest digits that give the same float32 back."""
    return np.format_float_positional(rate, unique=True, trim="0")


def _has_utf8(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True
