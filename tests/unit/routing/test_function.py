from __future__ import annotations

import random

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.routing import FunctionRouter
from tests.support.builders import PAIR


def test_a_function_routes() -> None:
    router = FunctionRouter(lambda prompt: len(prompt) / 10, model_pair=PAIR, threshold_for=lambda share: 1.0 - share)
    assert router.win_rates(["a", "abcd"]).tolist() == pytest.approx([0.1, 0.4])
    assert router.route("abcd", 0.4) == (PAIR.strong, 0.4, 0.4, True, "text")
    assert router.route("abcd").model == PAIR.weak
    assert router.threshold_for(0.2) == pytest.approx(0.8)
    assert router.route("", 0.4).model == PAIR.strong
    assert router.route("", 0.4, no_text="score").model == PAIR.weak


def test_the_random_router_draws_what_routellm_draws() -> None:
    router = FunctionRouter.random(PAIR)
    random.seed(7)
    expected = [random.uniform(0, 1) for _ in range(5)]
    random.seed(7)
    assert [router.route("the same", 0.5).win_rate for _ in range(3)] == expected[:3]
    assert np.array_equal(router.win_rates(["the same"] * 2), np.float32(expected[3:]))
    assert router.default_threshold == 0.5
    assert router.answers_at_once


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), "0.5"])
def test_what_is_no_win_rate_is_refused(value: object) -> None:
    router = FunctionRouter(lambda prompt: value, kind="mine")
    with pytest.raises((rf.InvalidThresholdError, TypeError), match="the win rate of the mine router"):
        router.route("a", 0.5)


def test_without_a_known_threshold_one_must_be_given() -> None:
    router = FunctionRouter(lambda prompt: 0.5)
    with pytest.raises(rf.InvalidArgumentError, match="give a threshold"):
        router.route("a")
    with pytest.raises(TypeError, match="found float"):
        FunctionRouter(0.5)  # type: ignore[arg-type]
