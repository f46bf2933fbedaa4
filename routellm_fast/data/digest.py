"""SHA-256 digests of data files, which records of trainings and calibrations hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from routellm_fast.errors import DataError


def file_digest(path: Path) -> str:
    """Return "sha256:<hex>" of a file. Raises DataError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    return f"sha256:{digest.hexdigest()}"
