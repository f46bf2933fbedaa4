from __future__ import annotations

import pytest

from benchmarks.harness.tables import bound, number


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3214, "0.32"), (4.1, "4.1"), (5.0, "5"), (36.389, "36.4"), (1341.57, "1,342"), (150_000, "150,000"), (0, "0")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.48e-7, "2e-07"), (9.3e-8, "1e-07"), (0.0, "0"), (3e-7, "3e-07")])
def test_bounds_are_rounded_up(value: float, text: str) -> None:
    assert bound(value) == text
