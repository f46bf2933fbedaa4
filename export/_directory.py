"""Directories of exports: written whole or not at all, and never over what is no export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from routellm_fast.atomic import staged_directory
from routellm_fast.errors import ArtifactFormatError, ArtifactWriteError, OutputExistsError
from routellm_fast.json_file import read_json_object
from routellm_fast.owned import Owned

from ._report import REPORT_FILE

_FILES = "files"


@contextmanager
def export_directory(out: Path, *, marker: str = REPORT_FILE) -> Iterator[Path]:
    """Fill a directory, which then takes the place of an earlier export.

    The marker gets a list of all files, "files", in which an empty folder ends in "/". What such a list of an earlier
    export names is replaced; all else that lies there stays.

    Args:
        out: Where the export will stand.
        marker: A file that every such export holds, by which an earlier one is known: a JSON object, which the block
            writes.

    Raises:
        ArtifactWriteError: Something that is no export stands there, or the file system refused; nothing was changed.
        OutputExistsError: A file would have the name of one that is no part of the earlier export.
    """
    try:
        with staged_directory(out, lambda place: _owned(place, marker)) as staging:
            yield staging
            _list_files(staging, staging / marker)
    except OSError as error:
        if isinstance(error, (ArtifactWriteError, OutputExistsError)) or error.errno is None:
            raise
        raise ArtifactWriteError(
            error.errno, f"{out} could not be written ({error.strerror or error}). What stood there is unchanged."
        ) from error


def _list_files(folder: Path, marker: Path) -> None:
    found = {path: path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    names = sorted(f"{name}/" if path.is_dir() else name for path, name in found.items() if not _holds_more(path))
    content = {**read_json_object(marker), _FILES: names}
    marker.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _owned(out: Path, marker: str) -> Owned:
    """Return which files of an export its marker lists. Raises ArtifactWriteError for what is no export."""
    if not (out / marker).is_file():
        raise ArtifactWriteError(f"{out} exists and is no export ({marker}): it is left alone. Choose another path.")
    try:
        names = read_json_object(out / marker)[_FILES]
        fits = isinstance(names, list) and marker in names and all(map(_is_inside, names))
    except (ArtifactFormatError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ArtifactWriteError(
            f"{out} is left alone: nothing says which of its files may be replaced, as its {marker} does not list the "
            "files of the export. Choose another path, or move it away."
        )
    folders = {name.removesuffix("/") for name in names if name.endswith("/")}
    files = frozenset(name for name in names if not name.endswith("/"))
    return Owned(marker, files, empty_folders=frozenset(folders))


def _holds_more(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _is_inside(name: object) -> bool:
    """Say whether a name in a list of files leads to what lies in the directory."""
    if not isinstance(name, str) or "\0" in name:
        return False
    name = name.removesuffix("/")
    return PurePosixPath(name).as_posix() == name and not {"", ".", "..", "/"} & {*PurePosixPath(name).parts, name}
