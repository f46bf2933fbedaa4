"""Draw docs/architecture.svg: the way of a prompt, and the packages of the project in layers.

`python docs/architecture.py` writes the picture. The layers are those of `.importlinter`, which `make lint` enforces:
the picture of the package cannot show what the code does not do.
"""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

REPOSITORY: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = REPOSITORY / "docs" / "architecture.svg"

_WIDTH: Final = 1080
_MARGIN: Final = 20
_GAP: Final = 8
_BOX_HEIGHT: Final = 44

_WAY: Final = (
    ("chat messages", "prompt.py takes the text"),
    ("text", "tokenizer and token table"),
    ("embedding", "cache, where one is given"),
    ("win rate", "the router's score"),
    ("decision", "win rate ≥ threshold: strong"),
)

# What a package is for. Every package of the contract needs a line here.
PURPOSES: Final = {
    "cli": "routellm-fast: flags and printing",
    "export": "ONNX, TensorRT, Triton repositories",
    "adaptation": "own traffic → router with a proof",
    "evaluation": "what a router is worth: metrics, report",
    "augmentation": "more labels: golden, judge",
    "training": "labels → routers",
    "thresholds": "share, budget, quality → threshold",
    "gateway": "an HTTP server before models",
    "controller": "RouteLLM's Controller",
    "pool": "more than two models",
    "routing": "routers by name",
    "upstreams": "LiteLLM, openai: who answers",
    "data": "preference data from files",
    "serving": "routers behind Triton",
    "c_abi": "where the C library lies",
    "routers": "one module or package a kind",
    "embedders": "texts → vectors",
    "origin": "where a router came from",
    "artifact": "router directories: writing",
    "onnx": "graphs that ONNX Runtime runs",
    "calibration": "what a router carries of it",
}

# The core's folders, lowest first; one line is one layer.
CORE: Final = (
    (("base", "errors, aligned memory"), ("kernels", "a file an instruction set"), ("dispatch", "the one in use")),
    (("text", "UTF-8, WordPiece, surface features"), ("score", "linear scores, banks of battles, refit")),
    (("directory", "router directories: reading"), ("embed", "token table, embedder, cache")),
    (("router", "Router: the only thing that scores"),),
    (("python", "the extension"), ("c_abi", "C, Go, Rust, C++"), ("triton", "Triton's backend")),
)

_STYLE: Final = """
  svg { color-scheme: light dark; --ink: #1b1f24; --faint: #57606a; --paper: #ffffff; --box: #f3f5f8; --line: #c3cad3;
        --core: #e4eefb; --way: #fdf0da; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #e6e9ee; --faint: #a2abb6; --paper: #14171c; --box: #20252d; --line: #3d4652; --core: #1c2c45;
          --way: #3a2f1a; }
  }
  text { font-family: system-ui, -apple-system, 'Segoe UI', sans-serif; fill: var(--ink); }
  .head { font-size: 15px; font-weight: 600; }
  .name { font-size: 14px; font-weight: 600; }
  .note { font-size: 11.5px; fill: var(--faint); }
  rect { stroke: var(--line); rx: 6; }
  .paper { fill: var(--paper); stroke: none; }
  .package { fill: var(--box); } .core { fill: var(--core); } .way { fill: var(--way); }
  path { stroke: var(--faint); fill: none; }
"""


@dataclass(slots=True)
class _Drawing:
    parts: list[str] = field(default_factory=list)
    bottom: float = _MARGIN

    def heading(self, text: str) -> None:
        self.bottom += 22
        self.parts.append(f'<text class="head" x="{_MARGIN}" y="{self.bottom}">{escape(text)}</text>')
        self.bottom += 10

    def layer(self, boxes: list[tuple[str, str]], kind: str, *, arrows: bool = False) -> None:
        """Add one row of boxes, as wide as the picture together."""
        gap = 28 if arrows else _GAP
        width = (_WIDTH - 2 * _MARGIN - gap * (len(boxes) - 1)) / len(boxes)
        for number, (name, note) in enumerate(boxes):
            left = _MARGIN + number * (width + gap)
            place = f'text-anchor="middle" x="{left + width / 2:.1f}"'
            self.parts += [
                f'<rect class="{kind}" x="{left:.1f}" y="{self.bottom}" width="{width:.1f}" height="{_BOX_HEIGHT}"/>',
                f'<text class="name" {place} y="{self.bottom + 19}">{escape(name)}</text>',
                f'<text class="note" {place} y="{self.bottom + 35}">{escape(note)}</text>',
            ]
            if arrows and number:
                tip, height = left - 4, self.bottom + _BOX_HEIGHT / 2
                self.parts.append(f'<path d="M{tip - 20:.1f} {height} H{tip:.1f} m-6 -4 l6 4 l-6 4"/>')
        self.bottom += _BOX_HEIGHT + _GAP

    def line(self, text: str) -> None:
        self.bottom += 10
        self.parts.append(f'<text class="note" x="{_MARGIN}" y="{self.bottom}">{escape(text)}</text>')
        self.bottom += 8

    def svg(self) -> str:
        height = self.bottom + _MARGIN - _GAP
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
            'aria-label="The way of a prompt, and the packages of routellm-fast in layers">\n'
            f"<style>{_STYLE}</style>\n"
            f'<rect class="paper" x="0" y="0" width="{_WIDTH}" height="{height:.0f}"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def layers() -> list[list[str]]:
    """Return the packages of the contract, highest layer first; the last layer is the root's own modules."""
    contract = configparser.ConfigParser()
    contract.read(REPOSITORY / ".importlinter", encoding="utf-8")
    lines = contract["importlinter:contract:layers"]["layers"].split("\n")
    found = [re.findall(r"\w+", line) for line in lines if line.strip()]
    return [[name for name in layer if not name.startswith("_")] for layer in found]


def draw() -> str:
    """Return the picture."""
    drawing = _Drawing()
    drawing.heading("The way of a prompt")
    drawing.layer(list(_WAY), "way", arrows=True)
    drawing.heading("routellm_fast: a package imports what stands below it, never above")
    *packages, root = [layer for layer in layers() if layer]
    for layer in packages:
        drawing.layer([(name, PURPOSES[name]) for name in layer], "package")
    drawing.line("at the root, for all packages: " + " · ".join(root))
    drawing.heading("csrc: the engine, C++20, no Python but in the folder python")
    for layer in reversed(CORE):
        drawing.layer(list(layer), "core")
    return drawing.svg()


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
