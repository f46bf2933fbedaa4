"""`python -m benchmarks triton`: measures the Triton backend in a real server; writes triton.json and triton.md."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness.command import TimedReport, run
from benchmarks.harness.places import REPOSITORY
from benchmarks.triton import page
from benchmarks.triton.measure import measure

# The tests' environment of the server, which ROUTELLM_FAST_TRITON_ENV may name elsewhere.
_ENVIRONMENT: Final = Path(os.environ.get("ROUTELLM_FAST_TRITON_ENV") or REPOSITORY / "build" / "triton-env")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment",
        type=Path,
        default=_ENVIRONMENT,
        metavar="DIR",
        help="environment of the server; default: the one that `make triton-env` makes",
    )


REPORT: Final = TimedReport(
    name="triton",
    about="Measure the Triton backend in a real server beside a trivial C++ backend and Triton's Python backend.",
    measure=lambda options: measure(options.environment.resolve(), is_quick=options.quick),
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
