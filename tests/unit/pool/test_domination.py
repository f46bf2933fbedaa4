from __future__ import annotations

import numpy as np
import pytest

from routellm_fast.pool.domination import dominators

COSTS = np.array([1.0, 2.0, 3.0, 3.0])


@pytest.mark.parametrize(
    ("qualities", "found"),
    [
        ([0.5, 0.6, 0.7, 0.8], [-1, -1, 3, -1]),  # as dear, and worse
        ([0.9, 0.6, 0.7, 0.9], [-1, 0, 0, 0]),  # as good, and dearer
        ([0.5, 0.8, 0.7, 0.9], [-1, -1, 3, -1]),  # of two that dominate the third, the better one
        ([0.7, 0.7, 0.7, 0.7], [-1, 0, 0, 0]),
        ([0.5, 0.7, 0.9, 0.9], [-1, -1, -1, -1]),  # equals do not dominate one another
        ([0.5, 0.7, 0.9 + 1e-12, 0.9], [-1, -1, -1, -1]),  # nor does a difference that rounding makes
    ],
)
def test_what_costs_no_more_and_is_no_worse_dominates(qualities: list[float], found: list[int]) -> None:
    quality = np.array(qualities)
    assert dominators(COSTS, quality, COSTS, quality).tolist() == found


def test_prompts_at_once_are_the_prompts_one_by_one() -> None:
    qualities = np.random.default_rng(0).random((50, 4)).round(1)
    found = dominators(COSTS, qualities, COSTS, qualities)
    assert found.tolist() == [dominators(COSTS, row, COSTS, row).tolist() for row in qualities]
    assert (found >= 0).any()


def test_rivals_may_be_others() -> None:
    costs, qualities = np.array([2.5, 0.5]), np.array([0.6, 0.9])
    assert dominators(costs, qualities, COSTS, np.array([0.5, 0.7, 0.7, 0.7])).tolist() == [1, -1]
