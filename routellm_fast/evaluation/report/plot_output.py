"""Figures as bytes: PNG, and SVG that takes the colours of the page it stands on."""

from __future__ import annotations

import io
import re
from typing import Any, Final

from routellm_fast.evaluation.report.plot_style import GRID, INK, MUTED, SERIES, SURFACE
from routellm_fast.extras import require

_DPI: Final = 160


def to_png(figure: Any) -> bytes:
    """Return a PNG on white."""
    stream = io.BytesIO()
    # Neither version nor date: equal results give equal bytes.
    figure.savefig(stream, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def to_svg(figure: Any, salt: str) -> str:
    """Return an SVG element without a size of its own, whose ids begin with the salt."""
    matplotlib = require("matplotlib", "evaluate")
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", facecolor="none", transparent=True, metadata=metadata)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Ids must be unique on a page that holds several pictures; matplotlib names glyphs alike in each.
    text = re.sub(r'((?: id="|xlink:href="#|href="#|url\(#))', rf"\g<1>{salt}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The first two sizes are those of the whole; the page gives its own.
    text = re.sub(r' (?:width|height)="[^"]*pt"', "", text, count=2)
    variables = {INK: "ink", MUTED: "muted", GRID: "grid", SURFACE: "surface"}
    variables |= {color: f"series-{index}" for index, color in enumerate(SERIES, start=1)}
    for color, variable in variables.items():
        text = text.replace(color, f"var(--{variable})")
    return text
