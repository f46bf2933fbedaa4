"""Numbers and tables as a report shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


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


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] * len(header)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
