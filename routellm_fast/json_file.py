"""JSON files of a user's, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from routellm_fast.errors import DataError


def read_json(path: Path) -> Any:
    """Return what a file holds. Raises DataError where it cannot be read, or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error})") from error
