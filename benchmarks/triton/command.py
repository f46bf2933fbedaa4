"""`python -m benchmarks triton`: measures the Triton backend in a real server; writes triton.json and triton.md."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness.command import TimedReport, run
from benchmarks.harness.reports import Report
from benchmarks.triton import page
from benchmarks.triton.measure import measure


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment",
        type=Path,
        metavar="DIR",
        help="environment of the server; default: build/triton-env, which `make triton-env` makes",
    )


def _measure(options: argparse.Namespace) -> Report:
    if options.environment is not None:
        os.environ["ROUTELLM_FAST_TRITON_ENV"] = str(options.environment.resolve())
    return measure(is_quick=options.quick)


REPORT: Final = TimedReport(
    name="triton",
    about="Measure the Triton backend in a real server beside a trivial C++ backend and Triton's Python backend.",
    measure=_measure,
    json_name=lambda _: "triton.json",
    page_name=lambda _: "triton.md",
    page=page.render,
    excerpt=page.tables,
    markers=page.MARKERS,
    add_arguments=_add_arguments,
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    return run(REPORT, arguments)
