"""Prints text and tables: drawn for a terminal or a pipe, as Markdown where asked."""

from __future__ import annotations

from typing import Final

import typer
from rich.console import Console
from rich.table import Table

from routellm_fast.evaluation.text_table import TextTable

# Where the output is no terminal each row stays on one line, however long.
_ANY_WIDTH: Final = 10_000
# On terminals with fewer columns what is in brackets is printed below its number.
_WIDE: Final = 150


def printable(text: str) -> str:
    """Return text without control characters, which names of models, routers and domains from files may hold."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def show_text(*lines: str) -> None:
    """Print lines of text, broken at words where the terminal is narrower."""
    console = _console()
    for line in lines:
        console.print(printable(line), soft_wrap=not console.is_terminal)


def show_table(table: TextTable, *, markdown: bool = False) -> None:
    """Print a table with aligned columns, or as Markdown."""
    if markdown:
        for line in table.markdown().splitlines():
            typer.echo(printable(line))
        typer.echo()
        return
    console = _console()
    is_narrow = console.width < _WIDE
    drawn = Table(box=None, pad_edge=False)
    for title in table.head:
        drawn.add_column(printable(title), justify="left" if title in table.words else "right", overflow="fold")
    for row in table.rows:
        cells = zip(table.head, map(printable, row), strict=True)
        drawn.add_row(*(_folded(cell) if is_narrow and title not in table.words else cell for title, cell in cells))
    console.print(drawn)


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=_ANY_WIDTH)


def _folded(cell: str) -> str:
    """Put an interval below its number, in less room."""
    number, mark, interval = cell.partition(" [")
    return f"{number}\n[{interval.replace(', ', ',')}" if mark else cell
