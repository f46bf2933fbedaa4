"""Outputs of minutes of work: what stands there already is replaced with --force only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Force = Annotated[
    bool, typer.Option("--force", help="Replace what stands at the place of an output; otherwise it is refused.")
]


def check_vacant_outputs(*paths: Path | None, force: bool) -> None:
    """Raise OutputExistsError where something stands at a path, before the work. None is no output."""
    from routellm_fast.places import check_vacant  # most commands only read

    for path in paths:
        if path is not None:
            check_vacant(path, force=force)


def write_json(path: Path, record: Any) -> None:
    """Write a record as JSON that a reader finds whole or not at all. Raises OSError where it cannot be written."""
    from routellm_fast.atomic import replaced_file  # most commands only read

    with replaced_file(path) as file:
        file.write((json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
