from __future__ import annotations

import pytest

from benchmarks.similarity.budgets import compressed
from benchmarks.similarity.names import SW_INT8, SW_MOMENTS


@pytest.mark.parametrize(
    ("int8", "moments", "chosen"),
    [
        ((1e-5, 900.0), (1e-4, 300.0), SW_MOMENTS),  # the faster one, as long as it is exact enough
        ((1e-5, 900.0), (2e-3, 300.0), SW_INT8),
        ((5e-3, 900.0), (2e-3, 300.0), SW_MOMENTS),  # none is: the more exact one, whose row then shows it
    ],
)
def test_a_speed_counts_only_with_its_exactness(
    int8: tuple[float, float], moments: tuple[float, float], chosen: str
) -> None:
    found = {SW_INT8: int8, SW_MOMENTS: moments}
    report = {
        "sw_quality": {"of": {name: {"max_difference_to_float32": away} for name, (away, _) in found.items()}},
        "sw_one": {"single_calls": {name: {"p50_us": taken} for name, (_, taken) in found.items()}},
    }
    assert compressed(report) == chosen
