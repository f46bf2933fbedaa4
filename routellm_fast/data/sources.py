"""Reads rows from a source: a file, a folder of files, or a data set on the Hugging Face hub.

* A **file** is CSV or JSON lines, plain or gzipped, or Parquet.
* A **folder** holds such files, directly or in its folder `data/`. They are read in the order of their names: the
  Parquet files if there are any, else the others. Where files are named by split (`train-00000-of-00002.parquet`,
  `train.csv`), only those of the wanted split are read. A folder that the library `datasets` wrote by `save_to_disk` is
  read too; that needs the extra `hf`.
* `hf:OWNER/NAME` or `hf:OWNER/NAME:SPLIT` is downloaded by the library `datasets`, with its cache and its settings
  (extra `hf`). `hf:FOLDER:SPLIT` reads another split of a folder.

The split is `train` unless another is named.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from routellm_fast.data.digest import file_digest
from routellm_fast.errors import DataError
from routellm_fast.extras import require
from routellm_fast.tables import SUFFIXES, LeftOut, Row, form_of, read_table

_HUB: Final = "hf:"
_DEFAULT_SPLIT: Final = "train"
# The file that `datasets` writes into a folder that it saves: for one split, and for several.
_SAVED: Final = ("state.json", "dataset_dict.json")


def rows_of(path: Path, *, left_out: LeftOut | None = None) -> Iterator[Row]:
    """Yield the rows of a source in order; there is at least one.

    Args:
        path: The source.
        left_out: Takes lines of text that are no row; None raises. See tables.LeftOut.

    Raises:
        DataError: The source cannot be read or reached, has no rows, or a row is damaged; the text names file and line.
        MissingExtraError: The source needs an optional library that is not installed.
    """
    place, split = _resolved(path)
    if isinstance(place, str) or _is_saved(place):
        yield from _library_rows(path, place, split)
    else:
        for file in _split_files(place, split):
            yield from read_table(file, left_out=left_out)


def source_files(path: Path) -> list[Path]:
    """Return the files of a source in order; an empty list where only the library `datasets` can read the source.

    Raises DataError where the source cannot be found.
    """
    place, split = _resolved(path)
    return [] if isinstance(place, str) or _is_saved(place) else _split_files(place, split)


def source_name(path: Path) -> str:
    """Return the name of a source: that of its file, folder or data set, without file endings and split."""
    place, _ = _resolved(path)
    return Path(place).name.split(".")[0]


def source_digests(path: Path) -> dict[str, str]:
    """Return the digest "sha256:<hex>" of each file of a source, by file name.

    A source that the library `datasets` saved or downloaded has one digest, that of its rows.
    """
    files = source_files(path)
    if files:
        parent = Path(_resolved(path)[0]).parent
        return {str(file.relative_to(parent)): file_digest(file) for file in files}
    digest = hashlib.sha256()
    for row in rows_of(path):
        digest.update(json.dumps(row.values, sort_keys=True, default=str).encode())
    return {str(path): f"sha256:{digest.hexdigest()}"}


def _resolved(path: Path) -> tuple[Path | str, str | None]:
    """Return a path and no split unless one is named, or the name of a data set on the hub and its split."""
    text = str(path)
    if not text.startswith(_HUB):
        return Path(text), None  # also where a str was given
    name, _, split = text.removeprefix(_HUB).partition(":")
    if not name:
        raise DataError(
            f"{path} must be {_HUB}OWNER/NAME, or {_HUB}OWNER/NAME:SPLIT for another split than {_DEFAULT_SPLIT}"
        )
    return (Path(name) if Path(name).exists() or Path(name).is_absolute() else name), split or _DEFAULT_SPLIT


def _is_saved(place: Path) -> bool:
    return any((place / name).is_file() for name in _SAVED)


def _split_files(place: Path, split: str | None) -> list[Path]:
    if not place.exists():
        raise DataError(f"{place} cannot be read (there is no such file or folder)")
    if not place.is_dir():
        return [place]
    wanted = split or _DEFAULT_SPLIT
    folders = (place, place / "data")
    files = next(filter(None, (_tables(folder, ("parquet",)) for folder in folders)), [])
    files = files or next(filter(None, (_tables(folder, ("csv", "jsonl")) for folder in folders)), [])
    if not files:
        raise DataError(f"{place} holds no table ({', '.join(SUFFIXES)}), nor does its folder data/")
    of_split = [file for file in files if file.name.startswith((f"{wanted}-", f"{wanted}."))]
    if wanted != _DEFAULT_SPLIT and not of_split:
        raise DataError(f"{place} has no file of the split {wanted!r}, only {', '.join(file.name for file in files)}")
    return of_split or files


def _tables(folder: Path, forms: Collection[str]) -> list[Path]:
    return sorted(file for file in folder.glob("*") if form_of(file) in forms and file.is_file())


def _library_rows(path: Path, place: Path | str, split: str | None) -> Iterator[Row]:
    datasets = require("datasets", "hf")
    wanted = split or _DEFAULT_SPLIT
    try:
        if isinstance(place, Path):
            loaded = datasets.load_from_disk(str(place))
        else:
            with _quiet(datasets):
                loaded = datasets.load_dataset(place, split=wanted)
    except Exception as error:  # the library passes on what its many transports and formats raise
        advice = (
            "The folder is damaged: save it again."
            if isinstance(place, Path)
            else "Check the name and the split. If this machine cannot reach the hub, download the data set on another "
            f"(`hf download {place} --repo-type dataset --local-dir FOLDER`) and give the folder."
        )
        raise DataError(f"the split {wanted!r} of {path} cannot be loaded ({error}). {advice}") from error
    if isinstance(loaded, dict):
        if wanted not in loaded:
            raise DataError(f"{path} has no split {wanted!r}, only {', '.join(loaded)}")
        loaded = loaded[wanted]
    if not len(loaded):
        raise DataError(f"{path} holds no rows")
    for number, values in enumerate(loaded):
        yield Row(path, number, values, "row")


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Turn off the library's progress bars where standard error is no terminal; restore its setting afterwards."""
    if sys.stderr.isatty() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
