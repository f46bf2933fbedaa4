"""Folders that benchmarks read and write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = REPOSITORY / "benchmarks" / "results"


def data_folder() -> Path:
    """Return the folder of data outside of the repository: ROUTELLM_FAST_DATA, else shared/data beside it."""
    return Path(os.environ.get("ROUTELLM_FAST_DATA", REPOSITORY.parent / "shared" / "data"))
