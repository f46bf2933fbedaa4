"""The pieces that pages of results are made of. Every text that is given to them is escaped."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Final

from routellm_fast.evaluation.report.page_style import STYLE
from routellm_fast.evaluation.report.plots import Plot
from routellm_fast.interval import Interval
from routellm_fast.shown import shown

# The signs that typography wants, by name: they are easily taken for their ASCII look-alikes.
NONE: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"


def escape(text: str) -> str:
    """Return text from outside for use within an element or a quoted attribute."""
    return html.escape(shown(text))


def document(title: str, body: str) -> str:
    """Return a whole page.

    Args:
        title: The title, plain text.
        body: What the page shows, as HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def html_table(caption: str, heads: Iterable[str], rows: Iterable[str], *, words: bool = False) -> str:
    """Return a table in a region of its own, which scrolls where it is too wide.

    Args:
        caption: What it shows.
        heads: Titles of the columns, that of the rows' names first.
        rows: Rows as `table_row` returns them.
        words: Whether the cells hold words, which stand on the left.
    """
    # A region that scrolls must be reachable without a mouse.
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    kind = ' class="words"' if words else ""
    columns = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        f"{region}<table{kind}><caption><span>{escape(caption)}</span></caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def table_row(name: str, cells: Iterable[str], role: str, *, color: str = "") -> str:
    """Return a row of a table.

    Args:
        name: What the row is about.
        cells: Its cells, as HTML.
        role: "router", "baseline", "bound" or "single"; all but the first are shown in grey.
        color: A CSS colour that marks the row as the line of a picture; "" for none.
    """
    swatch = f'<span class="swatch" style="background: {color}"></span>' if color else ""
    return f'<tr class="{role}"><th scope="row">{swatch}{escape(name)}</th>{"".join(cells)}</tr>'


def interval_cell(interval: Interval | None, show: Callable[[float], str], *, best: bool = False) -> str:
    """Return a cell with a number and its interval; a dash for None."""
    if interval is None:
        return f"<td>{NONE}</td>"
    drawn = "" if interval.width == 0.0 else f"<small>[{show(interval.low)}, {show(interval.high)}]</small>"
    kind = ' class="best"' if best else ""
    return f"<td{kind}>{show(interval.value)}{drawn}</td>"


def figure(plot: Plot, name: str) -> str:
    """Return a picture with its caption; the name keeps its ids apart from those of others on the page."""
    # One drawing for wide windows and one for phones, on which the letters of the first could not be read.
    drawings = "".join(
        _drawing(svg, f"{name}-{plot.name}-{width}-alt", plot.alt, width)
        for width, svg in (("wide", plot.svg), ("narrow", plot.narrow_svg))
    )
    return f"<figure>{drawings}<figcaption>{escape(plot.caption)}</figcaption></figure>\n"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    return f"{value:+.3f}".replace("-", MINUS)


def _drawing(svg: str, title: str, alt: str, width: str) -> str:
    svg = svg.replace("<svg ", f'<svg class="{width}" role="img" aria-labelledby="{title}" ', 1)
    begin = svg.index(">") + 1
    return f'{svg[:begin]}<title id="{title}">{escape(alt)}</title>{svg[begin:]}'
