"""What a benchmark's results come to: which threshold to set, what that saves, and how sure this is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from routellm_fast.arrays import brief_repr
from routellm_fast.evaluation.results import LENGTH, BenchmarkResult, RouterResult
from routellm_fast.interval import Interval

Comparison = Literal["better", "no clear difference", "worse"]
# How tables name the APGR that is meant where nothing else is said.
APGR_TITLE: Final = "APGR, RouteLLM's code"
# APGR of random routing, in expectation.
_CHANCE: Final = 0.5
# What the verdict recommends, as a share of the quality gap.
_ADVISED: Final = 0.8
_GAP_SHARES: Final = (0.5, _ADVISED, 0.95)
_STRONG_SHARES: Final = (0.1, 0.25, 0.5, 0.75)
_ROUNDING: Final = 1e-9
_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class Setting:
    """A threshold, and what the router does with it on the prompts of the benchmark.

    Attributes:
        goal: What it is for, e.g. "80 % of the gap".
        threshold: Win rate from which the strong model is chosen.
        strong_share: Share of prompts at the strong model, in (0, 1].
        quality: Mean quality of the answers.
        pgr: Share of the quality gap that this recovers.
        cost_usd_per_1k: US dollars a thousand prompts; None where a model has no price.
    """

    goal: str
    threshold: float
    strong_share: float
    quality: float
    pgr: float
    cost_usd_per_1k: float | None

    @property
    def threshold_text(self) -> str:
        """The threshold rounded down to six decimals, so that the prompts at the threshold still reach it."""
        return threshold_text(self.threshold)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on the router with the highest APGR.

    Attributes:
        router: Its name.
        headline: One sentence that says whether it is worth using on such prompts.
        points: Labels and sentences: what to set, what that saves, and how sure this is. The first two are left out
            where the router is not better than random routing.
        settings: Thresholds for several goals.
    """

    router: str
    headline: str
    points: tuple[tuple[str, str], ...]
    settings: tuple[Setting, ...]

    __repr__ = brief_repr


def threshold_text(threshold: float) -> str:
    """Return a threshold rounded down to six decimals, so that the prompts at the threshold still reach it."""
    scale = 10.0**_DECIMALS
    return f"{math.floor(threshold * scale) / scale:.{_DECIMALS}f}"


def compared(difference: Interval) -> Comparison:
    """Return in words what the 95 % interval of a difference says."""
    return "better" if difference.low > 0.0 else "worse" if difference.high < 0.0 else "no clear difference"


def quality_text(result: BenchmarkResult, quality: float) -> str:
    """Return a mean quality in the benchmark's unit: percent where a perfect answer scores 1."""
    return percent(quality) if result.max_quality == 1.0 else f"{quality:.2f} of {result.max_quality:g}"


def percent(share: float, decimals: int = 1) -> str:
    """Return a share as percent."""
    return f"{100.0 * share:.{decimals}f} %"


def settings_of(router: RouterResult, result: BenchmarkResult) -> tuple[Setting, ...]:
    """Return thresholds of a router for shares of the gap, then for strong shares, as the prompts allow.

    Goals that only the weak model alone comes near, as where most prompts have one win rate, are left out.
    """
    curve, weak = router.curve, result.weak_quality
    share, quality = np.array(curve.strong_share), np.array(curve.quality)
    pgr = (quality - weak) / (result.strong_quality - weak)
    found: list[tuple[str, int]] = []
    for wanted in _GAP_SHARES:
        reached = np.flatnonzero(pgr >= wanted - _ROUNDING)
        if len(reached):
            found.append((f"{percent(wanted, 0)} of the gap", int(reached[0])))
    found += [(f"{percent(wanted, 0)} strong share", int(np.abs(share - wanted).argmin())) for wanted in _STRONG_SHARES]
    costs = curve.cost_usd_per_1k
    return tuple(
        Setting(
            goal,
            curve.threshold[at],
            curve.strong_share[at],
            curve.quality[at],
            float(pgr[at]),
            None if costs is None else costs[at],
        )
        for goal, at in found
        if curve.strong_share[at] > 0.0
    )


def verdict_on(result: BenchmarkResult) -> Verdict | None:
    """Return the verdict on the best router of a benchmark; None where there are only baselines."""
    routers = [router for router in result.routers if router.role == "router"]
    if not routers:
        return None
    best = max(routers, key=lambda router: router.metrics.apgr_routellm.value)
    settings = settings_of(best, result)
    over_chance = compared(_less(best.metrics.apgr_routellm, _CHANCE))
    points = [*_rivals(best, result)]
    if over_chance == "better":
        points += _advice(best, result, settings)
    points.append(("How sure", _confidence(best, result)))
    return Verdict(best.name, _headline(best, result, over_chance), tuple(points), settings)


def _headline(best: RouterResult, result: BenchmarkResult, over_chance: Comparison) -> str:
    start = f"{best.name} on {result.name}"
    if over_chance == "worse":
        return f"{start}: worse than random routing. Do not use it for such prompts."
    if over_chance == "no clear difference":
        return f"{start}: no clear difference from random routing. Nothing here speaks for using it."
    over_length = _difference(best.name, LENGTH, result)
    if over_length is None:
        return f"{start}: better than random routing."
    longest = f"sending the longest prompts to {result.strong_model}"
    return {
        "better": f"{start}: better than random routing, and better than {longest}.",
        "no clear difference": f"{start}: better than random routing; no clear difference from {longest}.",
        "worse": f"{start}: better than random routing, but worse than {longest}.",
    }[compared(over_length)]


def _rivals(best: RouterResult, result: BenchmarkResult) -> Iterator[tuple[str, str]]:
    """Yield which other routers may be as good, as far as differences say so."""
    others = [router.name for router in result.routers if router.role == "router" and router.name != best.name]
    if not others:
        return
    equals = []
    for name in others:
        ahead = _difference(best.name, name, result)
        behind = _difference(name, best.name, result)
        if (ahead is not None and ahead.low <= 0.0) or (behind is not None and behind.high >= 0.0):
            equals.append(name)
    equal = f"; no clear difference from {', '.join(equals)}" if equals else ""
    yield "Other routers", f"{best.name} has the highest APGR of {len(others) + 1}{equal}."


def _advice(best: RouterResult, result: BenchmarkResult, settings: tuple[Setting, ...]) -> Iterator[tuple[str, str]]:
    advised = next((setting for setting in settings if setting.goal == f"{percent(_ADVISED, 0)} of the gap"), None)
    if advised is None:
        return
    cpt, saving, dollars = (best.metrics.cpt80, best.metrics.saving_cpt80, best.metrics.dollar_saving_cpt80)
    what = (
        f"threshold {advised.threshold_text} recovers {percent(_ADVISED, 0)} of the gap. It sends "
        f"{percent(advised.strong_share)} of these prompts to {result.strong_model} (CPT(80 %): {percent(cpt.value)} "
        f"[{percent(cpt.low)}, {percent(cpt.high)}]), and the quality is {quality_text(result, advised.quality)}; "
        f"{result.strong_model} alone has {quality_text(result, result.strong_quality)}, {result.weak_model} alone "
        f"{quality_text(result, result.weak_quality)}."
    )
    yield "What to set", what
    costs = best.curve.cost_usd_per_1k
    spent = (
        ""
        if costs is None or advised.cost_usd_per_1k is None
        else f" It costs {advised.cost_usd_per_1k:.2f} USD per 1,000 prompts; {result.strong_model} alone costs "
        f"{costs[-1]:.2f}."
    )
    in_dollars = "" if dollars is None else f", and {_factor(dollars)} less money"
    yield (
        "What it saves",
        f"{_factor(saving)} fewer strong calls{in_dollars} than random routing of the same quality.{spent}",
    )


def _confidence(best: RouterResult, result: BenchmarkResult) -> str:
    apgr = best.metrics.apgr_routellm
    length = next((router.metrics.apgr_routellm for router in result.routers if router.name == LENGTH), None)
    against = _difference(best.name, LENGTH, result)
    beside = "" if length is None else f" Prompt length has {length.value:.3f}"
    if against is not None:
        beside += f"; {best.name} less prompt length: {against.value:+.3f} [{against.low:+.3f}, {against.high:+.3f}]"
    return (
        f"APGR {apgr.value:.3f} [{apgr.low:.3f}, {apgr.high:.3f}]. Random routing has {_CHANCE}."
        f"{beside + '.' if beside else ''} In brackets: 95 % intervals over the choice of these {result.prompts:,} "
        "prompts. On other traffic a threshold sends another share to the strong model: find yours with routellm-fast "
        "calibrate."
    )


def _factor(saving: Interval) -> str:
    value, low, high = ("\N{INFINITY}" if math.isinf(part) else f"{part:.2f}" for part in saving.to_list())
    return f"{value} times [{low}, {high}]"


def _difference(router: str, other: str, result: BenchmarkResult) -> Interval | None:
    return next((found.apgr for found in result.differences if (found.router, found.other) == (router, other)), None)


def _less(interval: Interval, amount: float) -> Interval:
    return Interval(interval.value - amount, interval.low - amount, interval.high - amount)
