"""The report's JSON as Markdown. Pure: every figure comes from the JSON, and equal JSON gives equal text."""

from __future__ import annotations

from typing import Final

from benchmarks.harness import machine
from benchmarks.harness.budgets import Budget, budget_table, measured
from benchmarks.harness.reports import Report, command_of
from benchmarks.harness.tables import count, number, table
from benchmarks.mf.budgets import MF_BUDGETS
from benchmarks.mf.page import mf_parts
from benchmarks.similarity.budgets import SIMILARITY_BUDGETS
from benchmarks.similarity.page import similarity_parts
from benchmarks.startup.budgets import STARTUP_BUDGETS
from benchmarks.startup.page import startup_parts
from benchmarks.text.budgets import TEXT_BUDGETS, apgr
from benchmarks.text.page import text_parts

# Where the headline table stands in README.md.
MARKERS: Final = ("<!-- benchmark:begin -->", "<!-- benchmark:end -->")

_SUITES: Final = (
    "pytest-benchmark's own figures, one contender after the other: not interleaved, so compare roughly, and within a "
    "group. The result of each is asserted."
)
_LOADS: Final = (
    "Load averages of 1, 5 and 15 minutes. One busy thread of ours makes a load of 1; more is somebody else's noise."
)
_NOT_TIMED: Final = (
    "Loading and first calls, except under *Import and loading*: every contender runs untimed first.",
    "Embedding services, HTTP, the gateway: RouteLLM's service is replaced by a look-up.",
    "Several threads, and GPUs.",
    "Surface features for the peers: model2vec's decision is made without them, which spares it work.",
    "Training, calibration and evaluation. APGR is taken from the router's own provenance.",
    "Python's garbage collector, which is off while the clock runs.",
)


def budgets_of(report: Report) -> tuple[Budget, ...]:
    """Return the budgets that a report measured."""
    similarity = SIMILARITY_BUDGETS if "sw_one" in report else ()
    return (*TEXT_BUDGETS, *MF_BUDGETS, *STARTUP_BUDGETS, *similarity)


def summary(report: Report) -> str:
    """Return the table of all budgets."""
    return budget_table(budgets_of(report), report)


def render(report: Report) -> str:
    """Return the whole report."""
    about = report["machine"]
    parts = [
        "# Benchmarks of routellm-fast",
        f"Measured {about['date']} by `{command_of(report)}` on: {machine.line(about)}.",
        f"Raw figures: [{report['file']}]({report['file']}).",
    ]
    if report["effort"] != "full":
        parts.append(f"**A {report['effort']} run: it shows that the benchmarks work. Its figures mean nothing.**")
    parts += _warnings(report)
    router = report["router"]
    parts += [
        "## Budgets",
        "One thread. *Peers*: how many times as long a peer takes, measured in the same run, turn by turn.",
        summary(report),
        f"The router: {router['kind']}, {router['embedder']}, {router['dim']} dimensions. APGR: {apgr(report)}.",
        *text_parts(report),
        *mf_parts(report),
        *(similarity_parts(report) if "sw_one" in report else ()),
        *startup_parts(report),
        "## Suites",
        _SUITES,
        _suite_table(report),
        "## Not timed",
        "\n".join(f"- {line}" for line in _NOT_TIMED),
        "## How quiet the machine was",
        _LOADS,
        _load_table(report),
    ]
    return "\n\n".join(parts) + "\n"


def headline(report: Report) -> str:
    """Return what stands in the project's README."""
    about = report["machine"]
    rows = [
        [budget.stage, measured(budget, report), budget.peer(report), budget.quality(report)]
        for budget in budgets_of(report)
    ]
    return (
        f"{table(['stage, one thread', 'measured', 'peers in the same run', 'quality'], rows)}\n\n"
        f"{machine.line(about)}. `make benchmark`, {about['date']}; all of it in "
        "[benchmarks/results/latest.md](benchmarks/results/latest.md).\n"
    )


def _warnings(report: Report) -> list[str]:
    parts = [f"- {name}: {reason}" for name, reason in sorted(report["missing"].items())]
    if report["suites_exit_code"]:
        parts.append(f"- The suites failed: pytest exit code {report['suites_exit_code']}")
    return ["**Missing or failed**\n\n" + "\n".join(parts)] if parts else []


def _suite_table(report: Report) -> str:
    rows = [
        [
            entry["group"],
            entry["name"],
            number(entry["median_us"]),
            number(entry["iqr_us"]),
            number(entry["min_us"]),
            count(entry["rounds"]),
        ]
        for entry in report["suites"]
    ]
    return table(["group", "benchmark", "median µs", "IQR", "min", "rounds"], rows) if rows else "Not run."


def _load_table(report: Report) -> str:
    rows = [
        [name, " ".join(map(str, found["before"])), " ".join(map(str, found["after"]))]
        for name, found in report["loads"].items()
    ]
    return table(["section", "before", "after"], rows)
