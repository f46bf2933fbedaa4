"""`python -m benchmarks features`: what surface features cost on the way from text to decision.

Routers that differ in nothing but the surface features of their embedder decide on the same prompts in turns: none,
those of the router that ships, each one alone, and all. Writes features.json and features.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.command import TimedReport, run
from benchmarks.harness.figures import latencies, ratios
from benchmarks.harness.prompts import prompts_at_hand
from benchmarks.harness.reports import Report, command_of
from benchmarks.harness.tables import count, number, ratio, table
from benchmarks.harness.turns import clock_ns, time_items
from routellm_fast import load_router
from routellm_fast.embedders.static import SURFACE_FEATURES, StaticEmbedder
from routellm_fast.routers import MatrixFactorizationRouter

NONE: Final = "none"
SHIPPED: Final = "those of the router that ships"
ALL: Final = "all"
# The design allows so much with all features, at the median over prompts.
BUDGET_US: Final = 8.0
_ROUNDS: Final = 7
_QUICK: Final = (64, 2)


def contenders() -> dict[str, Callable[[str], Any]]:
    """Return by its features what decides on a prompt."""
    router = load_router()
    embedder = router.embedder
    assert isinstance(embedder, StaticEmbedder)
    chosen = {
        NONE: (),
        SHIPPED: embedder.surface_features,
        **{name: (name,) for name in SURFACE_FEATURES},
        ALL: SURFACE_FEATURES,
    }
    found: dict[str, Callable[[str], Any]] = {}
    for name, features in chosen.items():
        own = embedder.replace(surface_features=features)
        vector = np.random.default_rng(0).normal(size=own.dim) / own.dim
        decide = MatrixFactorizationRouter.of_vector(vector, model_pair=router.model_pair, embedder=own).route
        found[name] = partial(decide, threshold=0.5)
    return found


def _measure(options: argparse.Namespace) -> Report:
    prompts = prompts_at_hand()
    limit, rounds = _QUICK if options.quick else (None, _ROUNDS)
    order = np.random.default_rng(0).permutation(len(prompts.texts))[:limit]
    times = time_items(contenders(), [prompts.texts[row] for row in order.tolist()], rounds=rounds)
    return {
        "machine": machine.describe(),
        "prompts": len(order),
        "source": prompts.source,
        "rounds": rounds,
        "clock_ns": clock_ns(),
        "contenders": {name: latencies(np.median(found, axis=0)) for name, found in times.items()},
        "ratio_to_none": ratios(times, NONE),
    }


def page(report: Report) -> str:
    """Return features.md."""
    found = report["contenders"]
    base, whole = found[NONE]["p50_us"], found[ALL]["p50_us"]
    names = [NONE, SHIPPED, *SURFACE_FEATURES, ALL]
    rows = [
        [
            f"`{name}`" if name in SURFACE_FEATURES else f"**{name}**",
            number(found[name]["p50_us"]),
            f"{found[name]['p50_us'] - base:+.2f}",
            number(found[name]["p99_us"]),
            ratio(report["ratio_to_none"][name]),
        ]
        for name in names
        if name in found
    ]
    parts = [
        "# What surface features cost",
        (
            f"{count(report['prompts'])} {report['source']}, one decision each, in turns; a prompt's figure is its "
            f"median over {report['rounds']} rounds. One clock read, {report['clock_ns']:.0f} ns, is in each. A "
            "feature that is alone pays for the pass over the text that others share: the sum over all features is "
            "more than all of them cost together."
        ),
        (
            f"With all features a decision takes {number(whole)} µs at the median, {whole / BUDGET_US:.0%} of the "
            f"{BUDGET_US:g} µs that the design allows."
        ),
        table(["surface features", "p50, µs", "more than none, µs", "p99, µs", "ratio to none"], rows),
        f"`{command_of(report)}`. {machine.line(report['machine'])}",
    ]
    return "\n\n".join(parts) + "\n"


REPORT: Final = TimedReport(
    name="features",
    about=__doc__ or "",
    measure=_measure,
    json_name=lambda _: "features.json",
    page_name=lambda _: "features.md",
    page=page,
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    return run(REPORT, arguments)
