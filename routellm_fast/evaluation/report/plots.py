"""The pictures of an evaluation, as matplotlib figures without any global state of pyplot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from routellm_fast.evaluation.report.plot_curves import Drawn, draw_cost, draw_quality
from routellm_fast.evaluation.report.plot_output import to_png, to_svg
from routellm_fast.evaluation.report.plot_style import (
    GRID,
    INK,
    MUTED,
    NARROW,
    RC,
    WIDE,
    Key,
    Sheet,
    drawable,
    looks_of,
    new_figure,
)
from routellm_fast.evaluation.results import BenchmarkResult, CurvePoints, RouterResult
from routellm_fast.evaluation.verdict import APGR_TITLE
from routellm_fast.extras import require
from routellm_fast.interval import Interval

# What more there is stands in the table.
_MAX_DOMAINS: Final = 80
_MAX_SIDE_BY_SIDE: Final = 4


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture.

    Attributes:
        name: What it shows: "quality", "cost", "win_rates" or "domains".
        caption: One sentence below it.
        alt: What it shows, for those who cannot see it.
        svg: The picture for a page in a wide window; its colours are CSS variables (--ink, --muted, --grid, --surface,
            --series-1 ...).
        narrow_svg: The same for a window 390 pixels wide.
        png: The wide picture on white.
    """

    name: str
    caption: str
    alt: str
    svg: str
    narrow_svg: str
    png: bytes


def draw_plots(result: BenchmarkResult, *, salt: str, without: Collection[str] = ()) -> list[Plot]:
    """Draw what the result holds, the same bytes for the same result.

    Args:
        result: One benchmark.
        salt: Keeps element ids of several pictures on one page apart.
        without: Names of pictures that are not drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    drawers = {"quality": draw_quality, "cost": draw_cost, "win_rates": _win_rates, "domains": _domains}
    found = [
        draw_plot(name, functools.partial(draw, result), salt=salt)
        for name, draw in drawers.items()
        if name not in without
    ]
    return [plot for plot in found if plot is not None]


def draw_plot(name: str, draw: Callable[[Sheet], Drawn | None], *, salt: str) -> Plot | None:
    """Draw one picture for wide and narrow pages, the same bytes each time; None where there is nothing to draw.

    Args:
        name: What it shows; a word that ids can hold.
        draw: Returns figure, caption and alternative text for a sheet; None where there is nothing to draw.
        salt: Keeps element ids of several pictures on one page apart.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with require("matplotlib", "evaluate").rc_context(RC):
        wide, narrow = draw(WIDE), draw(NARROW)
        if wide is None or narrow is None:
            return None
        figures = []
        for figure, _, _ in (wide, narrow):
            # Laid out once, not again for each format.
            figure.get_layout_engine().execute(figure)
            figure.set_layout_engine("none")
            figures.append(figure)
        svgs = (to_svg(figures[0], f"{salt}-{name}"), to_svg(figures[1], f"{salt}-{name}-narrow"))
        return Plot(name, *wide[1:], *svgs, to_png(figures[0]))


def _win_rates(result: BenchmarkResult, sheet: Sheet) -> Drawn | None:
    shown = [router for router in result.routers if router.role == "router" and router.histogram is not None]
    if not shown:
        return None
    looks = looks_of(result)
    figure, grid = new_figure(sheet, 0.65 + 1.35 * len(shown), rows=len(shown))
    ranges = []
    for axes, router in zip(grid, shown, strict=True):
        edges = np.array(router.histogram.edges if router.histogram else ())
        counts = np.array(router.histogram.counts if router.histogram else ())
        look = looks[router.name]
        share = 100.0 * counts / max(counts.sum(), 1)
        axes.bar(edges[:-1], share, width=np.diff(edges), align="edge", color=look.color, linewidth=0.0, alpha=0.85)
        top = float(share.max()) * 1.35 or 1.0
        axes.set_ylim(0.0, top)
        cuts = [(_threshold_at(router.curve, cpt.value), text) for cpt, text in _cpts(router)]
        for threshold, _ in cuts:
            if edges[0] <= threshold <= edges[-1]:
                axes.axvline(threshold, color=INK, linewidth=1.0, linestyle=(0, (3, 2)))
        right = len(cuts) == 2 and cuts[0][0] < cuts[1][0]
        for (threshold, text), after in zip(cuts, (not right, right), strict=True):
            if edges[0] <= threshold <= edges[-1]:
                axes.annotate(
                    text,
                    (threshold, top * 0.97),
                    xytext=(3 if after else -3, 0),
                    textcoords="offset points",
                    ha="left" if after else "right",
                    va="top",
                    fontsize=8,
                    color=MUTED,
                )
        axes.set_title(
            drawable(router.name, sheet), loc="left", fontsize=9.5, color=look.color, fontweight="bold", pad=4
        )
        axes.set_ylabel("prompts (%)", fontsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5, length=3)
        axes.margins(x=0.01)
        axes.locator_params(axis="y", nbins=3)
        ranges.append(f"{router.name} from {edges[0]:.3g} to {edges[-1]:.3g}")
    grid[-1].set_xlabel("Win rate of the strong model")
    caption = (
        "How the win rates are spread. Dashed: the thresholds that recover 50 % and 80 % of the gap. Only their order "
        "matters to a router's quality; where they are narrow, thresholds need as many digits."
    )
    return figure, caption, f"Histograms of win rates on {result.name}: {'; '.join(ranges)}."


def _domains(result: BenchmarkResult, sheet: Sheet) -> Drawn | None:
    shown = [router for router in result.routers if router.role == "router" and router.by_domain][:_MAX_SIDE_BY_SIDE]
    if not shown:
        return None
    first = shown[0]
    ranked = [(domain, found.apgr.value) for domain, found in first.by_domain.items() if found.apgr is not None]
    ranked = sorted(ranked, key=lambda pair: (pair[1], pair[0]))[-_MAX_DOMAINS:]
    if not ranked:
        return None
    looks = looks_of(result)
    key = Key.of(shown, sheet, title=None) if len(shown) > 1 else None
    row_inches = 0.12 + 0.09 * len(shown)
    figure, (axes,) = new_figure(sheet, 0.7 + row_inches * max(len(ranked), 4) + (key.height_inches if key else 0.0))
    for index, router in enumerate(shown):
        look = looks[router.name]
        shift = 0.0 if len(shown) == 1 else 0.6 * (index / (len(shown) - 1) - 0.5)
        for row, (domain, _) in enumerate(ranked):
            found = router.by_domain.get(domain)
            if found is None or found.apgr is None:
                continue
            apgr = found.apgr
            axes.plot([apgr.low, apgr.high], [row - shift] * 2, color=look.color, linewidth=1.2, alpha=0.55, zorder=2)
            axes.plot([apgr.value], [row - shift], marker="o", markersize=3.6, color=look.color, zorder=3)
    values = [
        value
        for router in shown
        for domain, _ in ranked
        if (found := router.by_domain.get(domain)) is not None and found.apgr is not None
        for value in (found.apgr.low, found.apgr.value, found.apgr.high)
    ]
    # A domain of few prompts and a small gap has an interval far wider than the plot should be.
    low, high = max(min(values), -0.5), min(max(values), 1.5)
    pad = 0.03 * max(high - low, 0.1)
    axes.set_xlim(min(low, 0.45) - pad, max(high, 0.55) + pad)
    axes.axvline(0.5, color=MUTED, linewidth=1.0, zorder=1)
    axes.set_yticks(range(len(ranked)), [drawable(domain.replace("_", " "), sheet) for domain, _ in ranked], fontsize=8)
    axes.set_ylim(-0.8, len(ranked) - 0.2)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(APGR_TITLE)
    if key is not None:
        key.draw(figure, looks)
    best, worst = ranked[-1], ranked[0]
    caption = (
        "APGR within each domain, with 95 % intervals; random routing has 0.5. Intervals that reach across that line "
        "do not tell a router from random routing."
    )
    alt = (
        f"APGR of {first.name} by domain of {result.name}: highest {best[1]:.3f} in {best[0]}, lowest {worst[1]:.3f} "
        f"in {worst[0]}, over {len(ranked)} domains."
    )
    return figure, caption, alt


def _cpts(router: RouterResult) -> Sequence[tuple[Interval, str]]:
    return (router.metrics.cpt50, "50 %"), (router.metrics.cpt80, "80 %")


def _threshold_at(curve: CurvePoints, share: float) -> float:
    return float(np.interp(share, curve.strong_share, curve.threshold))
