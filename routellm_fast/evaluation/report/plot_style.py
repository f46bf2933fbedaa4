"""How every picture looks: colours, lines, letters, and the key below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from routellm_fast.evaluation.results import RANDOM, BenchmarkResult, RouterResult
from routellm_fast.evaluation.verdict import APGR_TITLE
from routellm_fast.extras import require

INK: Final = "#1f2328"
MUTED: Final = "#5f6772"
GRID: Final = "#e4e7eb"
SURFACE: Final = "#fefefe"
# Okabe and Ito's hues, which colour-blind readers tell apart, darkened until each stands out on white.
SERIES: Final = ("#0072b2", "#c85200", "#007d5a", "#a8478a", "#946c00", "#3d5a98")
_STYLES: Final[tuple[Any, ...]] = ("solid", (0, (6, 1.5)), (0, (4, 1.2, 1, 1.2)), (0, (1.5, 1)))
RC: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "path",
    "text.usetex": False,
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a picture is drawn on: letters have the same size on each.

    Attributes:
        width_inches: How wide it is.
        max_name: How many characters of a name are drawn.
        key_characters: How many characters stand side by side in the key below it.
    """

    width_inches: float
    max_name: int
    key_characters: int


# A page in a wide window, and on a phone 390 pixels wide.
WIDE: Final = Sheet(6.8, max_name=34, key_characters=72)
NARROW: Final = Sheet(3.7, max_name=22, key_characters=36)


@dataclass(frozen=True, slots=True)
class Look:
    """A line's colour, dashes, width, and what it covers."""

    color: str
    style: Any
    width: float
    order: int


def looks_of(result: BenchmarkResult) -> dict[str, Look]:
    """Return how each router's line looks: routers in colour, what they are held against in grey and black."""
    looks = {}
    routers = [router.name for router in result.routers if router.role == "router"]
    for index, name in enumerate(routers):
        style = _STYLES[index // len(SERIES) % len(_STYLES)]
        looks[name] = Look(SERIES[index % len(SERIES)], style, 2.1, 4)
    others = [router for router in result.routers if router.role != "router"]
    baselines = iter(((0, (5, 2)), (0, (3, 1, 1, 1))))
    for router in others:
        if router.role == "bound":
            looks[router.name] = Look(MUTED, (0, (1, 1.6)), 1.5, 3)
        elif router.name == RANDOM:
            looks[router.name] = Look(MUTED, "solid", 0.9, 2)
        else:
            looks[router.name] = Look(INK, next(baselines, "dashed"), 1.4, 3)
    return looks


@dataclass(frozen=True, slots=True)
class Key:
    """Lines by name and APGR, best first, below the picture: at their common ends labels would lie on one another."""

    routers: list[RouterResult]
    labels: list[str]
    columns: int
    title: str | None

    @classmethod
    def of(cls, routers: Iterable[RouterResult], sheet: Sheet, title: str | None = APGR_TITLE) -> Key:
        """Return the key of some routers, at least one."""
        ranked = sorted(routers, key=lambda router: -router.metrics.apgr_routellm.value)
        labels = [f"{drawable(router.name, sheet)}  {router.metrics.apgr_routellm.value:.3f}" for router in ranked]
        longest = max(map(len, labels))
        return cls(ranked, labels, min(len(ranked), max(1, sheet.key_characters // max(longest, 24))), title)

    @property
    def height_inches(self) -> float:
        """What the figure must be higher by."""
        return 0.21 * (-(-len(self.labels) // self.columns) + (self.title is not None)) + 0.1

    def draw(self, figure: Any, looks: Mapping[str, Look]) -> None:
        """Put it below the axes."""
        lines = require("matplotlib.lines", "evaluate")
        handles = [
            lines.Line2D([], [], color=look.color, linestyle=look.style, linewidth=look.width + 0.3)
            for look in (looks[router.name] for router in self.routers)
        ]
        key = figure.legend(
            handles,
            self.labels,
            loc="outside lower left",
            ncols=self.columns,
            frameon=False,
            title=self.title,
            title_fontsize=8.5,
            alignment="left",
            fontsize=9,
            handlelength=2.6,
            columnspacing=1.6,
            labelcolor=INK,
        )
        key.get_title().set_color(MUTED)


def new_figure(sheet: Sheet, height_inches: float, rows: int = 1) -> tuple[Any, Any]:
    """Return a figure of the Agg backend and its axes, one a row."""
    figures = require("matplotlib.figure", "evaluate")
    figure = figures.Figure(figsize=(sheet.width_inches, height_inches), layout="constrained", facecolor="none")
    require("matplotlib.backends.backend_agg", "evaluate").FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for one in axes:
        one.set_facecolor("none")
    return figure, axes


def drawable(name: str, sheet: Sheet) -> str:
    """A name as far as the font that matplotlib brings along can draw it, cut where it is too long for the sheet."""
    fonts = require("matplotlib.font_manager", "evaluate")
    known = fonts.get_font(fonts.findfont("DejaVu Sans")).get_charmap()
    text = "".join(
        letter if ord(letter) in known and letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in " ".join(name.split())
    )
    return text if len(text) <= sheet.max_name else f"{text[: sheet.max_name - 1]}\N{HORIZONTAL ELLIPSIS}"
