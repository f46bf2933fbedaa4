"""`python -m benchmarks before-after`: two versions of routellm_fast in turns; writes results/NAME.json and NAME.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.before_after.measure import FULL, QUICK, measure
from benchmarks.before_after.page import page
from benchmarks.before_after.sides import AFTER, BEFORE
from benchmarks.harness.command import CannotRunError, TimedReport, run
from benchmarks.harness.reports import Report

_ABOUT: Final = """\
Measure two versions of routellm_fast in turns: imports and loads in fresh processes, everything else in two processes
that stay. Install both versions as wheels, each in an environment of its own: an editable installation imports more
slowly. About half an hour.
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    for side in (BEFORE, AFTER):
        parser.add_argument(
            f"--{side}", type=Path, metavar="PYTHON", help=f"interpreter of the version {side} the change"
        )
        parser.add_argument(f"--{side}-label", default=side, metavar="TEXT", help="its commit or name, for the page")
    parser.add_argument("--name", default="before_after", help="stem of both files; default: %(default)s")


def _measure(options: argparse.Namespace) -> Report:
    if options.before is None or options.after is None:
        raise CannotRunError("--before and --after are both needed: an interpreter with routellm_fast for each version")
    # Not resolved: a virtual environment is found by where its interpreter's link lies.
    pythons = {BEFORE: options.before.absolute(), AFTER: options.after.absolute()}
    report = measure(pythons, effort=QUICK if options.quick else FULL)
    labels = {BEFORE: options.before_label, AFTER: options.after_label}
    return report | {"name": options.name, "labels": labels}


REPORT: Final = TimedReport(
    name="before-after",
    about=_ABOUT,
    measure=_measure,
    json_name=lambda report: f"{report['name']}.json",
    page_name=lambda report: f"{report['name']}.md",
    page=page,
    add_arguments=_add_arguments,
    settings=lambda _: " --before PYTHON --after PYTHON",
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    return run(REPORT, arguments)
