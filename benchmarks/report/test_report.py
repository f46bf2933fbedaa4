from __future__ import annotations

import re

import pytest

from benchmarks.harness.places import REPOSITORY, RESULTS
from benchmarks.harness.reports import Report, between, read
from benchmarks.report import page

LATEST = RESULTS / "latest.md"


@pytest.fixture
def report() -> Report:
    """The report that latest.md was made of."""
    name = re.search(r"\((\S+\.json)\)", LATEST.read_text(encoding="utf-8"))
    assert name is not None
    return read(RESULTS / name[1])


def test_the_committed_report_is_what_its_json_renders_to(report: Report) -> None:
    assert LATEST.read_text(encoding="utf-8") == page.render(report)


def test_the_readme_shows_the_committed_report(report: Report) -> None:
    assert between(REPOSITORY / "README.md", page.MARKERS).strip() == page.headline(report).strip()
