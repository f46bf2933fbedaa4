"""JSON files of a user's, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from routellm_fast.errors import DataError
from routellm_fast.tables import check_text, parse_json


def read_json(path: Path) -> Any:
    """Return what a file holds. Raises DataError where it cannot be read, is not UTF-8, or is no JSON."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    check_text(content, path)
    try:
        return parse_json(content.decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error})") from error
