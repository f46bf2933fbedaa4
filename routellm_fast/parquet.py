"""Reads Parquet files batch by batch, in bounded memory. Needs the extra `parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import DataError
from routellm_fast.extras import require

SUFFIX: Final = ".parquet"
# At 1,536 float64 values a row, a batch takes 12 MB.
BATCH_ROWS: Final = 1024
_BUFFER_BYTES: Final = 1 << 20


def column_names(file: Path) -> list[str]:
    """Return the names of a file's columns. Raises DataError where it cannot be read."""
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    try:
        return list(parquet.read_schema(file).names)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def row_count(file: Path) -> int:
    """Return how many rows a file has. Raises DataError where it cannot be read."""
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    try:
        return int(parquet.read_metadata(file).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def batches(file: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Any]]:
    """Yield pairs of the number of a batch's first row, counted from 0, and the batch (a pyarrow RecordBatch).

    Args:
        file: The file.
        columns: Names of the columns to read; None reads all.

    Raises:
        DataError: The file cannot be read, lacks one of the columns, or has two columns of one name.
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    row = 0
    try:
        # pyarrow's default is to buffer whole row groups: a file with a single group would lie in memory whole.
        with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as opened:
            names = opened.schema_arrow.names
            missing = [column for column in columns or () if column not in names]
            if missing:
                raise DataError(f"{file}: there is no column {missing[0]!r}, only {', '.join(map(repr, names))}")
            if len(set(names)) != len(names):
                raise DataError(f"{file}: a column is named twice")
            for batch in opened.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns)):
                yield row, batch
                row += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read ({error})")
