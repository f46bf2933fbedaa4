"""The door through which all commands print: lines, tables of rich, JSON, and messages on standard error.

What comes from outside is escaped here (see routellm_fast.shown). Tests check that no other module prints.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from rich.console import Console

from routellm_fast.shown import as_json, shown

# A message may quote an input of any length.
_MAX_MESSAGE_CHARACTERS: Final = 4_000


def say(*lines: str) -> None:
    """Print lines to standard output. A line break within a line is printed as its escape."""
    for line in lines or ("",):
        sys.stdout.write(f"{shown(line)}\n")


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON: on several lines, or on one where indent is None."""
    sys.stdout.write(f"{as_json(value, indent=indent)}\n")


def tell(message: str, *, by: str = "routellm-fast: ") -> None:
    """Print a message on standard error: one line that begins with `by`. Of a long one the middle is left out."""
    sys.stderr.write(f"{by}{one_line(message)}\n")


def one_line(message: str) -> str:
    """Return a message on one line. Of a long one the middle is left out, and it is said how much."""
    left_out = len(message) - _MAX_MESSAGE_CHARACTERS
    if left_out > 0:
        half = _MAX_MESSAGE_CHARACTERS // 2
        message = f"{message[:half]} … ({left_out:,} more characters) … {message[-half:]}"
    return shown(" ".join(message.split()))


def console(*, err: bool = False, width: int | None = None, highlight: bool = False) -> Console:
    """Return a console of rich for text that `shown` has returned: it reads no markup and replaces no `:emoji:`.

    Args:
        err: Print to standard error, not to standard output.
        width: Number of columns where the output is no terminal; None for rich's own choice.
        highlight: Show numbers and paths in colours on a terminal.
    """
    found = Console(stderr=err, markup=False, emoji=False, highlight=highlight)
    if width is not None and not found.is_terminal:
        found.width = width
    return found
