"""What suites and tests of benchmarks share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest

from benchmarks.harness.peers import PeerMissingError
from benchmarks.harness.places import REPOSITORY, RESULTS
from benchmarks.harness.reports import Markers, Report, between

T = TypeVar("T")

# What a report says of a machine, for samples of reports.
MACHINE: Final[dict[str, Any]] = {
    "date": "2026-11-24", "cpu": "A CPU", "cpu_id": "family 1", "cores": 2, "caches": {"L1d": "32K"},
    "memory_gib": 8, "isa": "avx2", "isa_available": ["scalar", "avx2"], "isa_forced": None, "blas": [],
    "compiler": "GCC", "commit": "abc", "python": "3.11.0", "versions": {"numpy": "2.4.6"},
}  # fmt: skip


def present_or_skip(build: Callable[[], T]) -> T:
    """Build a contender; skip the test where its library is not installed."""
    try:
        return build()
    except PeerMissingError as error:
        pytest.skip(str(error))


def committed(name: str) -> Report:
    """Return one of the results that are committed."""
    found: Report = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def shown(markers: Markers) -> str:
    """Return what docs/performance.md shows between two markers."""
    return between(REPOSITORY / "docs" / "performance.md", markers).strip()
