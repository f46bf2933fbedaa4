"""RouteLLM's datasets on disk: Parquet files of battles, and of their prompts' embeddings.

A dataset is a `.parquet` file, a folder of them in the order of their names, or a snapshot from the Hugging Face hub,
whose files lie in `data/`; of files named by split, those of `train` are read. Needs the extra `parquet`.

* **battles**: `model_a`, `model_b`, `prompt` (a JSON list of turns, of which the first counts), `winner_model_a` and
  `winner_model_b`, 0 or 1; where neither won it is a tie.
* **embeddings**: `embeddings`, a list of numbers. Row i belongs to the i-th battle that `read_battles` keeps. A `.npy`
  file with a (n, dim) array of floats does as well.

Rows are counted from 0, in errors too.

Source: `preprocess_battles` and `SWRankingRouter` of RouteLLM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast._extras import require
from routellm_fast.data.battles import Battle
from routellm_fast.data.names import known_aliases
from routellm_fast.data.split import group_of
from routellm_fast.errors import DataError

# RouteLLM's own limit: the published embeddings belong to the battles that it leaves.
MIN_PROMPT_CHARS: Final = 16

_PARQUET: Final = ".parquet"
_NUMPY: Final = ".npy"
_BATTLE_COLUMNS: Final = ("model_a", "model_b", "prompt", "winner_model_a", "winner_model_b")
_EMBEDDINGS_COLUMN: Final = "embeddings"
# Few enough that a batch of 1536 doubles a row takes 12 MB.
_BATCH_ROWS: Final = 1024
_BUFFER_BYTES: Final = 1 << 20


def is_dataset(path: Path) -> bool:
    """Say whether a path is read by this module, not as a table of text."""
    return path.is_dir() or path.suffix == _PARQUET


def dataset_files(path: Path) -> list[Path]:
    """Return the files of a dataset in order: a file itself, or the Parquet files of a folder. Raises DataError."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob(f"*{_PARQUET}")) or sorted((path / "data").glob(f"*{_PARQUET}"))
    if not files:
        message = f"{path} holds no *{_PARQUET}, nor does its folder data/"
        raise DataError(message)
    return [file for file in files if file.name.startswith("train-")] or files


def read_battles(path: Path, *, min_prompt_chars: int = MIN_PROMPT_CHARS) -> list[Battle]:
    """Read a dataset of battles, ties and battles of a model against itself included, as RouteLLM does.

    Args:
        path: The dataset.
        min_prompt_chars: Leave out rows whose first turn, without space around it, is shorter.

    Raises:
        DataError: A file is missing or damaged, or a row breaks the layout; the text names file, column and row.
        MissingExtraError: pyarrow is not installed.
    """
    aliases, source = known_aliases(), path.name.split(".")[0]
    battles: list[Battle] = []
    for file in dataset_files(path):
        for first_row, batch in _batches(file, _BATTLE_COLUMNS):
            columns = [batch.column(name).to_pylist() for name in _BATTLE_COLUMNS]
            for row, (model_a, model_b, turns, a_won, b_won) in enumerate(zip(*columns, strict=True), start=first_row):
                prompt = _first_turn(file, row, turns)
                if len(prompt) < min_prompt_chars:
                    continue
                a, b = _model(file, row, "model_a", model_a), _model(file, row, "model_b", model_b)
                won = _flag(file, row, "winner_model_a", a_won), _flag(file, row, "winner_model_b", b_won)
                target = 1.0 if won[0] else 0.0 if won[1] else 0.5
                battles.append(Battle(prompt, group_of(prompt), aliases.get(a, a), aliases.get(b, b), target, source))
    return battles


def read_embeddings(paths: Sequence[Path]) -> NDArray[np.floating[Any]]:
    """Read datasets of embeddings, one after the other, into one (n, dim) array.

    One `.npy` file is mapped, not read. All else becomes float32, batch by batch: at no time is there a second copy.

    Raises:
        DataError: A file is missing, damaged or empty, or an embedding has another length than the first or a value
            that is not finite; the text names file and row.
        MissingExtraError: pyarrow is not installed.
    """
    files = [file for path in paths for file in dataset_files(path)]
    if len(files) == 1 and files[0].suffix == _NUMPY:
        return _mapped(files[0])
    total, end = sum(_row_count(file) for file in files), 0
    embeddings = np.empty((0, 0), dtype=np.float32)
    for file in files:
        for first_row, block in _blocks(file):
            if not embeddings.size:
                embeddings = np.empty((total, block.shape[1]), dtype=np.float32)
            if block.shape[1] != embeddings.shape[1]:
                problem = f"has {block.shape[1]} numbers, but those before it have {embeddings.shape[1]}"
                raise _embedding_error(file, first_row, problem)
            part = embeddings[end : end + len(block)]
            with np.errstate(over="ignore"):
                part[...] = block
            finite = np.isfinite(part).all(axis=1)
            if not finite.all():
                row = first_row + int(np.argmin(finite))
                raise _embedding_error(file, row, "has a number that is not finite as float32")
            end += len(block)
    if not end:
        message = f"{', '.join(map(str, paths))}: there are no embeddings"
        raise DataError(message)
    return embeddings


def _batches(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the columns batch by batch, each with the number of its first row."""
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    row = 0
    try:
        # Buffered by the row group, as is pyarrow's default, a file of one group would be in memory whole.
        with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as opened:
            names = opened.schema_arrow.names
            missing = [column for column in columns if column not in names]
            if missing:
                message = f"{file}: there is no column {missing[0]!r}, only {', '.join(map(repr, names))}"
                raise DataError(message)
            for batch in opened.iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield row, batch
                row += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        message = f"{file} cannot be read ({error})"
        raise DataError(message) from error


def _first_turn(file: Path, row: int, turns: Any) -> str:
    try:
        first = json.loads(turns)[0]
    except (TypeError, ValueError, LookupError, RecursionError):
        first = None
    if not isinstance(first, str):
        message = f"{file}, row {row}: 'prompt' must be a JSON list of turns that are text, found {turns!r}"
        raise DataError(message)
    return first.strip()


def _model(file: Path, row: int, column: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        message = f"{file}, row {row}: {column!r} must be a name, found {name!r}"
        raise DataError(message)
    return name


def _flag(file: Path, row: int, column: str, value: Any) -> bool:
    if value not in (0, 1):
        message = f"{file}, row {row}: {column!r} must be 0 or 1, found {value!r}"
        raise DataError(message)
    return bool(value)


def _row_count(file: Path) -> int:
    if file.suffix == _NUMPY:
        return len(_mapped(file))
    pyarrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    try:
        return int(parquet.read_metadata(file).num_rows)
    except (pyarrow.ArrowException, OSError) as error:
        message = f"{file} cannot be read ({error})"
        raise DataError(message) from error


def _mapped(file: Path) -> NDArray[np.floating[Any]]:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        message = f"{file} cannot be read as .npy ({error})"
        raise DataError(message) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        found = f"{array.dtype.name} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        message = f"{file} must hold a (n, dim) array of floats, n >= 1, found {found}"
        raise DataError(message)
    return array


def _blocks(file: Path) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
    """Yield (k, dim) arrays of embeddings, each with the number of its first row."""
    if file.suffix == _NUMPY:
        array = _mapped(file)
        for start in range(0, len(array), _BATCH_ROWS):
            yield start, array[start : start + _BATCH_ROWS]
        return
    for row, batch in _batches(file, [_EMBEDDINGS_COLUMN]):
        if batch.num_rows:
            yield row, _matrix(file, row, batch.column(0))


def _matrix(file: Path, first_row: int, column: Any) -> NDArray[np.floating[Any]]:
    """Return a column of equally long lists as an array over the same memory."""
    pyarrow, compute = require("pyarrow", "parquet"), require("pyarrow.compute", "parquet")
    types = pyarrow.types
    is_list = types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type)
    if not is_list or not types.is_floating(column.type.value_type):
        message = f"{file}: {_EMBEDDINGS_COLUMN!r} must be lists of floats, found {column.type}"
        raise DataError(message)
    # Filled: a list that is not there counts as one without numbers.
    lengths = compute.fill_null(compute.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    unequal = (lengths != lengths[0]) | (lengths == 0)
    if unequal.any():
        row = int(np.argmax(unequal))
        problem = f"has {lengths[row]} numbers, expected as many as in the others, and at least one"
        raise _embedding_error(file, first_row + row, problem)
    values = column.flatten()
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // int(lengths[0])
        raise _embedding_error(file, first_row + row, "has an empty place")
    matrix: NDArray[np.floating[Any]] = values.to_numpy(zero_copy_only=True).reshape(len(column), int(lengths[0]))
    return matrix


def _embedding_error(file: Path, row: int, problem: str) -> DataError:
    return DataError(f"{file}, row {row}: {_EMBEDDINGS_COLUMN!r} {problem}")
