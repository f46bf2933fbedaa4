"""Directories of exports: written whole or not at all, and never over what is no export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from routellm_fast.atomic import staged_directory
from routellm_fast.errors import ArtifactWriteError

from ._report import REPORT_FILE


@contextmanager
def export_directory(out: Path, *, marker: str = REPORT_FILE) -> Iterator[Path]:
    """Fill a directory, which then takes the place of an earlier export.

    Args:
        out: Where the export will stand.
        marker: A file that every such export holds, by which an earlier one is known.

    Raises:
        ArtifactWriteError: Something that is no export stands there, or the file system refused; nothing was changed.
    """
    try:
        if out.is_symlink() or (out.exists() and not (out / marker).is_file() and not _is_empty(out)):
            raise ArtifactWriteError(
                f"{out} exists and is no export ({marker}): it is left alone. Choose another path."
            )
        with staged_directory(out) as staging:
            yield staging
    except OSError as error:
        if isinstance(error, ArtifactWriteError) or error.errno is None:
            raise
        raise ArtifactWriteError(
            error.errno, f"{out} could not be written ({error.strerror or error}). What stood there is unchanged."
        ) from error


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
