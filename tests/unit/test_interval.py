from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.interval import Interval


def test_resamples_give_the_middle_95_percent() -> None:
    draws = np.append(np.arange(101.0), np.nan)
    assert Interval.of(50.0, draws) == Interval(50.0, 2.5, 97.5)
    assert Interval.of(1.23456, np.array([np.nan]), decimals=3) == Interval(1.235, 1.235, 1.235)
    # The value lies inside even where no resample came to it.
    assert Interval.of(-1.0, draws).low == -1.0
    assert Interval.of(200.0, draws).high == 200.0


def test_a_list_holds_an_interval() -> None:
    interval = Interval(0.5, 0.25, 0.75)
    assert interval.to_list() == [0.5, 0.25, 0.75]
    assert Interval.from_list(interval.to_list(), "x", unit=True) == interval


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([0.5, 0.25], "list of value, low and high"),
        ({"value": 1}, "list of value, low and high"),
        ([0.5, 0.6, 0.75], "between low and high"),
        ([0.5, 0.25, 1.5], "finite number in"),
        ([0.5, 0.25, "1"], "must be a number"),
    ],
)
def test_other_lists_are_refused(value: object, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"x .*{words}"):
        Interval.from_list(value, "x", unit=True)
