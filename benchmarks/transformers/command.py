"""`python -m benchmarks transformers`: times routers that read prompts themselves; writes transformers.{json,md}."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness.command import TimedReport, run
from benchmarks.harness.places import RESULTS
from benchmarks.harness.reports import Report
from benchmarks.transformers.measure import BATCHES, measure
from benchmarks.transformers.page import MARKERS, page, tables

_ABOUT: Final = """\
Measure a bert classifier beside its peers, a causal_llm router beside the generation that RouteLLM uses, and cold
starts of every kind, one thread each; about eight minutes. The quality that stands beside the speeds is that of
results/transformers_quality.json.
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--routers", type=Path, metavar="DIR", help="trained routers, as quality-transformers leaves them: causal_llm"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="sizes of bert's batches")


def _settings(options: argparse.Namespace) -> str:
    sizes = tuple(options.batches)
    return "" if sizes == BATCHES else f" --batches {' '.join(map(str, sizes))}"


def _quality() -> Report | None:
    path = RESULTS / "transformers_quality.json"
    if not path.is_file():
        return None
    found: Report = json.loads(path.read_text(encoding="utf-8"))
    return found


REPORT: Final = TimedReport(
    name="transformers",
    about=_ABOUT,
    measure=lambda options: measure(options.routers, options.batches, is_quick=options.quick),
    json_name=lambda _: "transformers.json",
    page_name=lambda _: "transformers.md",
    page=lambda report: page(report, _quality()),
    excerpt=lambda report: tables(report, _quality()),
    markers=MARKERS,
    add_arguments=_add_arguments,
    settings=_settings,
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    return run(REPORT, arguments)
