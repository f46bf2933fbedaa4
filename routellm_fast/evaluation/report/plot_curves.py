"""Quality over the strong share, and over cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.evaluation.report.plot_style import (
    GRID,
    MUTED,
    SURFACE,
    Key,
    Look,
    Sheet,
    drawable,
    looks_of,
    new_figure,
)
from routellm_fast.evaluation.results import RANDOM, BenchmarkResult, CurvePoints, RouterResult
from routellm_fast.extras import require

_MAX_POINTS: Final = 400

FloatArray = NDArray[np.float64]
Drawn = tuple[Any, str, str]


def draw_quality(result: BenchmarkResult, sheet: Sheet) -> Drawn:
    """Return quality over the strong share: figure, caption and alternative text."""
    key = Key.of(result.routers, sheet)
    figure, (axes,) = new_figure(sheet, 3.8 + key.height_inches)
    looks = looks_of(result)
    weak, gap = result.weak_quality, result.strong_quality - result.weak_quality
    for router in result.routers:
        if router.name == RANDOM:
            _random_band(axes, router, weak, gap)
    for router in result.routers:
        x, y = _thinned(router.curve, router.curve.strong_share)
        _line(axes, 100.0 * x, y, looks[router.name])
    for share, label in ((0.5, "50 %"), (0.8, "80 %")):
        level = weak + share * gap
        axes.axhline(level, color=GRID, linewidth=1.0, zorder=1)
        _label(axes, level, f"{label} of the gap", font_size=7.5)
    for router in result.routers:
        if router.role == "router":
            crossings = ((0.5, router.metrics.cpt50, "o"), (0.8, router.metrics.cpt80, "D"))
            for share, cpt, marker in crossings:
                axes.plot(
                    [100.0 * cpt.value],
                    [weak + share * gap],
                    marker=marker,
                    markersize=6.5 if marker == "o" else 5.8,
                    markerfacecolor=SURFACE,
                    markeredgecolor=looks[router.name].color,
                    markeredgewidth=1.6,
                    linestyle="none",
                    zorder=6,
                    clip_on=False,
                )
    _frame(axes, result, sheet)
    axes.set_xlim(0.0, 100.0)
    axes.set_xlabel("Prompts sent to the strong model (%)")
    key.draw(figure, looks)
    caption = (
        "Quality of the answers at each share of prompts sent to the strong model. Circles mark CPT(50 %), diamonds "
        "CPT(80 %); the grey band holds 95 % of random routers."
    )
    ranked = sorted(result.routers, key=lambda router: -router.metrics.apgr_routellm.value)
    found = "; ".join(
        f"{router.name}: APGR {router.metrics.apgr_routellm.value:.3f}, half of the gap recovered at "
        f"{100.0 * router.metrics.cpt50.value:.0f} % strong calls"
        for router in ranked
    )
    alt = (
        f"Line chart of {result.name}: quality rises from {result.weak_quality:.4g} with the weak model alone to "
        f"{result.strong_quality:.4g} with the strong model alone. {found}."
    )
    return figure, caption, alt


def draw_cost(result: BenchmarkResult, sheet: Sheet) -> Drawn | None:
    """Return quality over cost, as draw_quality does; None where there are no prices."""
    priced = [router for router in result.routers if router.curve.cost_usd_per_1k is not None]
    if not priced:
        return None
    key = Key.of(priced, sheet)
    figure, (axes,) = new_figure(sheet, 3.8 + key.height_inches)
    looks = looks_of(result)
    highest = 0.0
    for router in priced:
        x, y = _thinned(router.curve, router.curve.cost_usd_per_1k or ())
        _line(axes, x, y, looks[router.name])
        highest = max(highest, float(x.max()))
    _frame(axes, result, sheet)
    axes.set_xlim(0.0, highest * 1.02 or 1.0)
    axes.set_xlabel("Cost (USD per 1,000 prompts)")
    key.draw(figure, looks)
    at_half = "; ".join(f"{router.name} {_cost_at(router.curve, router.metrics.cpt50.value):.3g}" for router in priced)
    caption = "Quality of the answers at each cost, with the prices given in the settings."
    return figure, caption, f"Line chart of {result.name}: USD per 1,000 prompts for half of the gap: {at_half}."


def _line(axes: Any, x: FloatArray, y: FloatArray, look: Look) -> None:
    axes.plot(x, y, color=look.color, linestyle=look.style, linewidth=look.width, zorder=look.order)


def _random_band(axes: Any, random: RouterResult, weak: float, gap: float) -> None:
    """Where 95 % of random routers lie, from the interval of their APGR.

    With n prompts of which a share c is chosen at random, the variance of the mean quality is that of the gains times
    c (1 - c) / n, and that of the area under it theirs over 12 n.
    """
    half = (random.metrics.apgr_routellm.high - random.metrics.apgr_routellm.low) / 2.0
    share = np.linspace(0.0, 1.0, 101)
    middle = weak + gap * share
    spread = gap * half * np.sqrt(12.0 * share * (1.0 - share))
    axes.fill_between(100.0 * share, middle - spread, middle + spread, color=MUTED, alpha=0.18, linewidth=0.0, zorder=1)


def _frame(axes: Any, result: BenchmarkResult, sheet: Sheet) -> None:
    """The two models alone, and a range of quality in which the routers can be told apart."""
    strong, weak = result.strong_quality, result.weak_quality
    for quality in (strong, weak):
        axes.axhline(quality, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
    _label(axes, strong, f"{drawable(result.strong_model, sheet)} alone", right=strong < weak)
    _label(axes, weak, f"{drawable(result.weak_model, sheet)} alone", right=strong >= weak, below=True)
    drawn = [router for router in result.routers if router.role != "bound"]
    inside = [weak, strong, *(quality for router in drawn for quality in router.curve.quality)]
    best = max((quality for router in result.routers for quality in router.curve.quality), default=strong)
    gap = abs(strong - weak) or result.max_quality
    room = 0.09 * gap
    top = max(*inside, min(best, max(inside) + 0.3 * gap))
    axes.set_ylim(min(inside) - room - 0.03 * gap, top + room)
    if best > top:
        axes.annotate(
            f"oracle up to {_shown_quality(result, best)}",
            (0.5, 1.0),
            xycoords="axes fraction",
            # Above the picture, where no line goes through it.
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=MUTED,
        )
    axes.set_ylabel("Quality (%)" if result.max_quality == 1.0 else f"Quality (of {result.max_quality:g})")
    if result.max_quality == 1.0:
        ticker = require("matplotlib.ticker", "evaluate")
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda quality, _: f"{100.0 * quality:.4g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)


def _label(
    axes: Any, level: float, text: str, *, right: bool = False, below: bool = False, font_size: float = 8.5
) -> None:
    """A text on a horizontal line, at one of its ends; lines that pass behind it stop short of its letters."""
    effects = require("matplotlib.patheffects", "evaluate")
    axes.annotate(
        text,
        (1.0 if right else 0.0, level),
        xycoords=("axes fraction", "data"),
        xytext=(-4 if right else 4, -3 if below else 3),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top" if below else "bottom",
        fontsize=font_size,
        color=MUTED,
        zorder=7,
        path_effects=[effects.withStroke(linewidth=2.5, foreground=SURFACE)],
    )


def _cost_at(curve: CurvePoints, share: float) -> float:
    return float(np.interp(share, curve.strong_share, curve.cost_usd_per_1k or ()))


def _shown_quality(result: BenchmarkResult, value: float) -> str:
    return f"{100.0 * value:.1f} %" if result.max_quality == 1.0 else f"{value:.2f}"


def _thinned(curve: CurvePoints, x: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """No more points than the picture can show, both ends among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_POINTS)).round().astype(int))
    return np.array(x, dtype=np.float64)[chosen], np.array(curve.quality, dtype=np.float64)[chosen]
