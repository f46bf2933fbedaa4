"""Prints text and tables: drawn for a terminal or a pipe, as Markdown where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rich.cells import cell_len
from rich.table import Table

from routellm_fast.cli._printing import console, say
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.shown import shown

# Where the output is no terminal each row stays on one line, however long.
_ANY_WIDTH: Final = 10_000
# On terminals with fewer columns what is in brackets is printed below its number.
_WIDE: Final = 150
# Longer names are broken where room is short.
_NAME_CHARACTERS: Final = 28
# Behind each column.
_GAP: Final = 2


def show_text(*lines: str) -> None:
    """Print lines of text, broken at words where the terminal is narrower."""
    output = console(width=_ANY_WIDTH)
    for line in lines:
        output.print(shown(line), soft_wrap=not output.is_terminal)


def show_table(table: TextTable, *, markdown: bool = False) -> None:
    """Print a table with aligned columns, or as Markdown.

    Columns for which the terminal has no room stand in a second table below, whose first column is the same.
    """
    if markdown:
        say(*table.markdown().split("\n"), "")
        return
    output = console(width=_ANY_WIDTH)
    heads = [shown(title) for title in table.head]
    is_words = [title in table.words for title in table.head]
    rows = [list(map(shown, row)) for row in table.rows]
    if output.width < _WIDE:
        rows = [[cell if words else _folded(cell) for cell, words in zip(row, is_words, strict=True)] for row in rows]
    widths = [_room(column, heads, rows, is_words=words) for column, words in enumerate(is_words)]
    for index, columns in enumerate(_blocks(widths, output.width)):
        if index:
            output.print()
        room = output.width - sum(columns.values()) - _GAP * len(columns)
        drawn = Table(box=None, padding=(0, _GAP, 0, 0))
        for column, width in columns.items():
            longest = max(map(cell_len, [heads[column], *(line for row in rows for line in row[column].splitlines())]))
            more = max(0, min(longest - width, room))
            room -= more
            justify: Literal["left", "right"] = "left" if is_words[column] else "right"
            drawn.add_column(heads[column], justify=justify, overflow="fold", width=width + more)
        for row in rows:
            drawn.add_row(*(row[column] for column in columns))
        output.print(drawn)


def _room(column: int, heads: Sequence[str], rows: Sequence[Sequence[str]], *, is_words: bool) -> int:
    """Return how many characters wide a column must be: a title may be broken between words, and so may a long name."""
    longest = max((cell_len(line) for row in rows for line in row[column].splitlines()), default=0)
    title = max((cell_len(word) for word in heads[column].split()), default=0)
    return max(title, min(longest, _NAME_CHARACTERS) if is_words else longest)


def _blocks(widths: Sequence[int], room: int) -> list[dict[int, int]]:
    """Return columns and their widths, in groups that fit beside one another; each group begins with column 0."""
    blocks = [{0: widths[0]}]
    for column, width in enumerate(widths[1:], start=1):
        used = sum(blocks[-1].values()) + width + _GAP * (len(blocks[-1]) + 1)
        if used > room and len(blocks[-1]) > 1:
            blocks.append({0: widths[0]})
        blocks[-1][column] = width
    return blocks


def _folded(cell: str) -> str:
    """Put an interval below its number, in less room."""
    number, mark, interval = cell.partition(" [")
    return f"{number}\n[{interval.replace(', ', ',')}" if mark else cell
