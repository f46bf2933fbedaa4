"""`python -m benchmarks gateway`: measures the gateway beside others; writes gateway.json and gateway.md."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.gateway import page
from benchmarks.gateway.measure import measure
from benchmarks.harness.command import TimedReport, run
from benchmarks.harness.places import REPOSITORY

_ENVIRONMENTS: Final = Path(os.environ.get("ROUTELLM_FAST_GATEWAY_PEERS") or REPOSITORY / "build" / "gateway-peers")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environments",
        type=Path,
        default=_ENVIRONMENTS,
        metavar="DIR",
        help="environments of the peers; default: those that `make gateway-peers-env` makes",
    )


REPORT: Final = TimedReport(
    name="gateway",
    about="Measure `routellm-fast serve` beside a bare proxy, TensorZero, LiteLLM's proxy and RouteLLM's server.",
    measure=lambda options: measure(options.environments.resolve(), is_quick=options.quick),
    json_name=lambda _: "gateway.json",
    page_name=lambda _: "gateway.md",
    page=page.render,
    excerpt=page.tables,
    markers=page.MARKERS,
    add_arguments=_add_arguments,
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Return its exit code."""
    return run(REPORT, arguments)
