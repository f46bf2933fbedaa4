"""`python -m benchmarks report`: every figure of the routers that ship; writes <date>-<cpu>.json and latest.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from benchmarks.harness import machine
from benchmarks.harness.command import TimedReport, run
from benchmarks.report import page
from benchmarks.report.measure import measure

REPORT: Final = TimedReport(
    name="report",
    about="Measure the routers that ship beside their peers, and run the suites; about twenty minutes.",
    measure=lambda options: measure(is_quick=options.quick),
    json_name=lambda report: f"{machine.slug(report['machine'])}.json",
    page_name=lambda _: "latest.md",
    page=page.render,
    excerpt=page.headline,
    markers=page.MARKERS,
    summary=page.summary,
    has_failed=lambda report: bool(report["suites_exit_code"]),
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    return run(REPORT, arguments)
