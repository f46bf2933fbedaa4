"""Where rows come from: a file, a folder of files, or a data set of the Hugging Face hub.

* A **file** is CSV or JSON lines, plain or gzipped, or Parquet.
* A **folder** holds such files, itself or in its folder `data/`, as a snapshot from the hub does: Parquet if any, in
  the order of their names. Of files named by split (`train-00000-of-00002.parquet`, `train.csv`) those of the
  split are read. A folder that `datasets` wrote by `save_to_disk` does as well; that needs the extra `hf`.
* `hf:OWNER/NAME` or `hf:OWNER/NAME:SPLIT` is fetched through the `datasets` library, with its cache and its settings
  (extra `hf`). `hf:FOLDER:SPLIT` names the split of a folder.

The split is `train` where none is named.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from routellm_fast import parquet
from routellm_fast.data.digest import file_digest
from routellm_fast.errors import DataError
from routellm_fast.extras import require
from routellm_fast.tables import SUFFIXES, Row, read_table

_HUB: Final = "hf:"
_DEFAULT_SPLIT: Final = "train"
# What `datasets` leaves in a folder that it saved: of one split, and of several.
_SAVED: Final = ("state.json", "dataset_dict.json")


def rows_of(path: Path) -> Iterator[Row]:
    """Yield the rows of a source, at least one.

    Raises:
        DataError: It cannot be read or reached, has no rows, or one of them is damaged; the text names file and line.
        MissingExtraError: It needs an optional library that is not installed.
    """
    place, split = _resolved(path)
    if isinstance(place, str) or _is_saved(place):
        yield from _library_rows(path, place, split)
    else:
        for file in _split_files(place, split):
            yield from read_table(file)


def source_files(path: Path) -> list[Path]:
    """Return the files of a source in order; none where only the `datasets` library can tell. Raises DataError."""
    place, split = _resolved(path)
    return [] if isinstance(place, str) or _is_saved(place) else _split_files(place, split)


def source_name(path: Path) -> str:
    """Return what a source is called: its name without endings or split."""
    place, _ = _resolved(path)
    return Path(place).name.split(".")[0]


def source_digests(path: Path) -> dict[str, str]:
    """Return "sha256:<hex>" of each file of a source, by its name within; of a saved or fetched one, of its rows."""
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
        return path, None
    name, _, split = text.removeprefix(_HUB).partition(":")
    if not name:
        raise DataError(f"{path} must be {_HUB}OWNER/NAME, with :SPLIT where it is not {_DEFAULT_SPLIT}")
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
    files = next(filter(None, (sorted(folder.glob(f"*{parquet.SUFFIX}")) for folder in folders)), [])
    files = files or next(filter(None, (_tables(folder) for folder in folders)), [])
    if not files:
        raise DataError(
            f"{place} holds no *{parquet.SUFFIX} nor another table ({', '.join(SUFFIXES)}), nor does its data/"
        )
    of_split = [file for file in files if file.name.startswith((f"{wanted}-", f"{wanted}."))]
    if wanted != _DEFAULT_SPLIT and not of_split:
        raise DataError(f"{place} has no file of the split {wanted!r}, only {', '.join(file.name for file in files)}")
    return of_split or files


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.name.endswith(SUFFIXES) and file.is_file())


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
            else "Check name and split; where the hub cannot be reached, download the data set elsewhere "
            f"(`hf download {place} --repo-type dataset --local-dir FOLDER`) and give the folder."
        )
        raise DataError(f"{path} cannot be loaded, split {wanted!r} ({error}). {advice}") from error
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
    """No progress bars of the library's where nobody looks; its own setting is put back after."""
    if sys.stderr.isatty() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()
