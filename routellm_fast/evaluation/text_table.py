"""Tables of text: made once, then shown on a terminal or written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routellm_fast.arrays import brief_repr
from routellm_fast.shown import in_markdown


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows of text below a head.

    Attributes:
        head: One title for each column.
        rows: Cells, as many in each row as there are titles.
        words: Titles of the columns that hold words, which stand on the left; numbers stand on the right.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: frozenset[str] = frozenset()

    __repr__ = brief_repr

    def markdown(self) -> str:
        """Return the table as Markdown, without a line break at its end."""
        rule = ["---" if title in self.words else "---:" for title in self.head]
        return "\n".join([_line(self.head), f"|{'|'.join(rule)}|", *map(_line, self.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(in_markdown, cells))} |"
