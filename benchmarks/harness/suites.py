"""What suites and tests of benchmarks share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import pytest

from benchmarks.harness.peers import PeerMissingError
from benchmarks.harness.places import REPOSITORY, RESULTS
from benchmarks.harness.reports import Markers, Report, between

T = TypeVar("T")


def present_or_skip(build: Callable[[], T]) -> T:
    """Build a contender; skip the test where its library is not installed."""
    try:
        return build()
    except PeerMissingError as error:
        pytest.skip(str(error))


def committed(name: str) -> Report:
    """Return one of the results that are committed; skip the test where there is none of that name."""
    path = RESULTS / name
    if not path.is_file():
        pytest.skip(f"{name} is not committed")
    found: Report = json.loads(path.read_text(encoding="utf-8"))
    return found


def shown(markers: Markers) -> str:
    """Return what docs/performance.md shows between two markers."""
    return between(REPOSITORY / "docs" / "performance.md", markers).strip()
