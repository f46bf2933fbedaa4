from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.scoring import check_win_rates, score_in_batches

PROMPTS = [str(number) for number in range(7)]


def rates_of(prompts: Sequence[str]) -> np.ndarray:
    return np.array([int(prompt) / 10 for prompt in prompts], dtype=np.float32)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_batches_change_nothing_but_the_size_of_the_calls(batch: int) -> None:
    sizes: list[int] = []

    def scored(prompts: Sequence[str]) -> np.ndarray:
        sizes.append(len(prompts))
        return rates_of(prompts)

    found = score_in_batches(scored, PROMPTS, batch=batch)
    np.testing.assert_array_equal(found, rates_of(PROMPTS))
    assert found.dtype == np.float32
    assert max(sizes) == min(batch, 7)
    assert sum(sizes) == 7


def test_the_type_of_the_scores_is_kept() -> None:
    assert score_in_batches(lambda prompts: np.zeros(len(prompts)), PROMPTS, batch=3).dtype == np.float64
    assert score_in_batches(rates_of, [], batch=3).shape == (0,)


def test_progress_is_told_from_the_start_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    score_in_batches(rates_of, PROMPTS, batch=3, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 7), (3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    ("win_rates", "words"),
    [
        (lambda prompts: np.full(len(prompts), np.nan), r"3 prompts of a log, 3 of them not finite"),
        (lambda prompts: np.zeros(len(prompts) + 1), r"shape \(4,\) for 3 prompts of a log;"),
        (lambda prompts: np.zeros((len(prompts), 1)), r"shape \(3, 1\)"),
    ],
)
def test_what_is_no_number_a_prompt_is_refused(win_rates, words) -> None:
    with pytest.raises(InvalidArgumentError, match=f"router 'odd' gave win rates of .*{words}"):
        score_in_batches(win_rates, PROMPTS, batch=3, name="router 'odd'", source="a log")


def test_win_rates_lie_between_0_and_1() -> None:
    check_win_rates(np.array([0.0, 1.0]))
    for wrong in (np.array([0.5, 1.1]), np.array([np.nan]), np.empty(0), np.zeros((1, 1))):
        with pytest.raises(InvalidArgumentError, match="win rates"):
            check_win_rates(wrong)
