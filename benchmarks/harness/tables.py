"""Numbers and tables as a report shows them."""

# ruff: noqa: RUF001 - dashes are what a reader expects

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def number(value: float | None) -> str:
    """Return three significant digits, without an exponent."""
    if value is None or math.isnan(value):
        return "not measured"
    if value and abs(value) < 100:
        digits = 2 if abs(value) < 10 else 1
        return f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return count(value)


def bound(value: float) -> str:
    """Return an upper bound of one digit, e.g. 2e-07: rounded up, so that it is one."""
    if value == 0:
        return "0"
    unit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / unit) * unit:.0e}"


def count(value: float) -> str:
    """Return a whole number with commas."""
    return f"{value:,.0f}"


def ratio(found: Mapping[str, float]) -> str:
    """Return a ratio's median with its spread."""
    return f"{number(found['median'])} ({number(found['p5'])} – {number(found['p95'])}; {number(found['of_totals'])})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] * len(header)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
