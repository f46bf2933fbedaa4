"""Reads RouteLLM's datasets from disk: tables of battles, and Parquet files of the embeddings of their prompts.

A dataset is a `.parquet` file or a folder of such files (see `routellm_fast.data.sources`), which need the extra
`parquet`; battles may also be CSV or JSON lines, as the Arena's 55,000 are published. `data.read_battles` can read the
same battles; this module keeps them in the order of the embeddings.

* Columns of **battles**: `model_a`, `model_b`, `prompt` (a JSON list of turns, of which the first is the prompt; any
  other text is the prompt itself),
  `winner_model_a` and `winner_model_b`, 0 or 1 each; where both are 0 the battle is a tie.
* Column of **embeddings**: `embeddings`, a list of numbers. Row i belongs to the i-th battle that `read_battles` keeps.
  A `.npy` file with an (n, dim) array of floats can be given instead.

Errors count rows from 0.

Source: `preprocess_battles` and `SWRankingRouter` of RouteLLM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast import parquet
from routellm_fast.data.battles import Battle, target_of
from routellm_fast.data.counts import UNREADABLE, Counts
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import WON_COLUMNS, opening_turn
from routellm_fast.data.sources import source_files, source_name
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError
from routellm_fast.extras import require
from routellm_fast.tables import LeftOut, Row, form_of, read_table, usable

# RouteLLM's own limit: its published embeddings belong to the battles on prompts of at least this length.
MIN_PROMPT_CHARS: Final = 16

_NUMPY: Final = ".npy"
_BATTLE_COLUMNS: Final = ("model_a", "model_b", "prompt", *WON_COLUMNS)
_EMBEDDINGS_COLUMN: Final = "embeddings"


def is_dataset(path: Path, *, any_form: bool = False) -> bool:
    """Say whether a source is a dataset in RouteLLM's layout. Raises DataError where it cannot be read.

    Args:
        path: The source.
        any_form: Whether CSV and JSON lines count too. Without embeddings these are like any other table.
    """
    if not path.is_dir() and form_of(path) not in ("parquet", *(("csv", "jsonl") if any_form else ())):
        return False
    first = next(iter(source_files(path)), None)
    if first is None:
        return False
    if form_of(first) == "parquet":
        return WON_COLUMNS[0] in parquet.column_names(first)
    return any_form and WON_COLUMNS[0] in next(read_table(first)).values


def read_battles(
    path: Path,
    *,
    min_prompt_chars: int = MIN_PROMPT_CHARS,
    counts: Counts | None = None,
    left_out: LeftOut | None = None,
) -> list[Battle]:
    """Read a dataset of battles. As in RouteLLM, ties and battles of a model against itself are included.

    Args:
        path: The dataset.
        min_prompt_chars: Leave out rows whose prompt, without surrounding space, has fewer characters.
        counts: Filled with the numbers of rows read, battles kept and rows left out.
        left_out: Takes rows that break the layout; None raises. See tables.LeftOut.

    Raises:
        DataError: A file is missing or damaged, or a row breaks the layout and left_out does not take it, or all rows
            do; the text names file, column and row.
        MissingExtraError: pyarrow is not installed.
    """
    counts = Counts() if counts is None else counts
    aliases, source = known_aliases(), source_name(path)
    battles: list[Battle] = []
    refused = 0 if left_out is None else left_out.rows

    def read(row: Row) -> Battle | None:
        prompt = opening_turn(row)
        if len(prompt) < min_prompt_chars:
            return None
        a, b = _model(row, "model_a"), _model(row, "model_b")
        target = target_of(row)
        return Battle(prompt, group_of(prompt), aliases.get(a, a), aliases.get(b, b), target, source)

    for battle in usable(_battle_rows(path, counts), read, left_out):
        if battle is None:
            counts.leave_out("on a short prompt")
        else:
            battles.append(battle)
    counts.leave_out(UNREADABLE, (left_out.rows if left_out is not None else 0) - refused)
    counts.battles += len(battles)
    return battles


def read_embeddings(paths: Sequence[Path]) -> NDArray[np.floating[Any]]:
    """Read datasets of embeddings, one after the other, into one (n, dim) array.

    A single `.npy` file is memory-mapped and keeps its dtype. Anything else becomes float32, batch by batch, without a
    second copy in memory.

    Raises:
        DataError: A file is missing, damaged or empty, an embedding is longer or shorter than the first, or a value is
            not finite; the text names file and row.
        MissingExtraError: pyarrow is not installed.
    """
    files = [file for path in paths for file in source_files(path)]
    if len(files) == 1 and files[0].suffix.lower() == _NUMPY:
        return _mapped(files[0])
    total, end = sum(_row_count(file) for file in files), 0
    embeddings = np.empty((0, 0), dtype=np.float32)
    for file in files:
        for first_row, block in _blocks(file):
            if not embeddings.size:
                embeddings = np.empty((total, block.shape[1]), dtype=np.float32)
            if block.shape[1] != embeddings.shape[1]:
                raise _embedding_error(
                    file, first_row, f"has {block.shape[1]} numbers, but those before it have {embeddings.shape[1]}"
                )
            part = embeddings[end : end + len(block)]
            with np.errstate(over="ignore"):
                part[...] = block
            finite = np.isfinite(part).all(axis=1)
            if not finite.all():
                raise _embedding_error(
                    file, first_row + int(np.argmin(finite)), "has a number that is not finite as float32"
                )
            end += len(block)
    if not end:
        raise DataError(f"{', '.join(map(str, paths))}: there are no embeddings")
    return embeddings


def _battle_rows(path: Path, counts: Counts) -> Iterator[Row]:
    for file in source_files(path):
        if form_of(file) != "parquet":
            # A line that is no row is never passed over: the embeddings of the rows behind it would belong to others.
            for row in read_table(file):
                counts.rows += 1
                if missing := [column for column in _BATTLE_COLUMNS if column not in row.values]:
                    raise row.error(f"there is no column {missing[0]!r}, only {', '.join(map(repr, row.values))}")
                yield row
            continue
        for first_row, batch in parquet.batches(file, _BATTLE_COLUMNS):
            counts.rows += batch.num_rows
            for number, values in enumerate(batch.to_pylist(), start=first_row):
                yield Row(file, number, values, "row")


def _model(row: Row, column: str) -> str:
    name = row.values[column]
    if not isinstance(name, str) or not name:
        raise row.error(f"{column!r} must be a name, found {name!r}")
    return name


def _row_count(file: Path) -> int:
    return len(_mapped(file)) if file.suffix.lower() == _NUMPY else parquet.row_count(file)


def _mapped(file: Path) -> NDArray[np.floating[Any]]:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read as .npy ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        found = f"{array.dtype.name} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{file} must hold a (n, dim) array of floats, n >= 1, found {found}")
    return array


def _blocks(file: Path) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
    """Yield (k, dim) arrays of embeddings, each with the number of its first row."""
    if file.suffix.lower() == _NUMPY:
        array = _mapped(file)
        for start in range(0, len(array), parquet.BATCH_ROWS):
            yield start, array[start : start + parquet.BATCH_ROWS]
        return
    for row, batch in parquet.batches(file, [_EMBEDDINGS_COLUMN]):
        if batch.num_rows:
            yield row, _matrix(file, row, batch.column(0))


def _matrix(file: Path, first_row: int, column: Any) -> NDArray[np.floating[Any]]:
    """Return a column of equally long lists as an array over the same memory."""
    pyarrow, compute = require("pyarrow", "parquet"), require("pyarrow.compute", "parquet")
    types = pyarrow.types
    is_list = types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type)
    if not is_list or not types.is_floating(column.type.value_type):
        raise DataError(f"{file}: {_EMBEDDINGS_COLUMN!r} must be lists of floats, found {column.type}")
    # A missing list (null) counts as a list without numbers.
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    unequal = (lengths != lengths[0]) | (lengths == 0)
    if unequal.any():
        row = int(np.argmax(unequal))
        raise _embedding_error(
            file,
            first_row + row,
            f"has {lengths[row]} numbers, expected as many as in the other rows, and at least one",
        )
    values = column.flatten()
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // int(lengths[0])
        raise _embedding_error(file, first_row + row, "has a missing number (null)")
    matrix: NDArray[np.floating[Any]] = values.to_numpy(zero_copy_only=True).reshape(len(column), int(lengths[0]))
    return matrix


def _embedding_error(file: Path, row: int, problem: str) -> DataError:
    return DataError(f"{file}, row {row}: {_EMBEDDINGS_COLUMN!r} {problem}")
