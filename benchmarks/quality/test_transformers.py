from __future__ import annotations

from benchmarks.harness.places import RESULTS
from benchmarks.harness.suites import committed
from benchmarks.quality.transformers import page


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    text = (RESULTS / "transformers_quality.md").read_text(encoding="utf-8")
    assert text == page(committed("transformers_quality.json"))
