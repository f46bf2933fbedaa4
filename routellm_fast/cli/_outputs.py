"""Outputs of minutes of work: what stands there already is replaced with --force only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Force = Annotated[
    bool, typer.Option("--force", help="Replace what stands at the place of an output; otherwise it is refused.")
]


def check_vacant_outputs(*paths: Path | None, force: bool) -> None:
    """Raise OutputExistsError where something stands at a path, before the work. None is no output."""
    from routellm_fast.atomic import check_vacant  # most commands only read

    for path in paths:
        if path is not None:
            check_vacant(path, force=force)
