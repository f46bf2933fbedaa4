"""What commands say, on standard error, of the rows and columns that they leave out."""

from __future__ import annotations

from typing import Annotated

import typer

from routellm_fast.cli._printing import tell
from routellm_fast.tables import LeftOut

Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop at the first row that cannot be read. Without it such rows are left out, and standard error says "
        "how many there were and what was wrong with the first ten.",
    ),
]


def left_out_of(*, strict: bool, at_once: bool = False) -> LeftOut:
    """Return what readers give rows to that cannot be read; say_left_out tells what it holds.

    Args:
        strict: Let such a row end the command.
        at_once: Name each row when it is met, for commands that may read for hours.
    """
    return LeftOut(strict=strict, say=tell if at_once else None)


def say_left_out(left_out: LeftOut) -> None:
    """Say which columns were no models', how many rows could not be read and why, and how many lines were blank."""
    for path, columns in left_out.columns.items():
        tell(f"{path}: not taken for models: {', '.join(map(repr, columns))} (--models names the columns to take)")
    if left_out.say is None:
        for problem in left_out.named:
            tell(f"left out: {problem}")
    if left_out.rows:
        rows = (
            "1 row could not be read and was"
            if left_out.rows == 1
            else f"{left_out.rows:,} rows could not be read and were"
        )
        tell(f"{rows} left out; --strict stops at the first such row")
    if left_out.blank:
        tell(f"{left_out.blank:,} blank {'line was' if left_out.blank == 1 else 'lines were'} skipped")
