from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routellm_fast.adaptation.rounds import Enough, disagreement, next_batch, why_enough
from routellm_fast.adaptation.sampling import plan_labels
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.thresholds import Traffic

SCORES = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=st.integers(0, 5).map(float))


def test_two_routers_differ_between_their_ranks() -> None:
    scores = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 4.0, 3.0]])
    np.testing.assert_allclose(disagreement(scores), [0.0, 0.0, 0.25, 0.25])
    # The two differ on which one prompt of the four is best, and where only one is sent to the strong model.
    np.testing.assert_allclose(disagreement(scores, shares=(0.5, 1.0)), 0.0)
    np.testing.assert_allclose(disagreement(scores, shares=(0.0, 0.5)), [0.0, 0.0, 0.5, 0.5])
    np.testing.assert_allclose(disagreement(scores[:1]), 0.0)


@given(SCORES)
def test_disagreement_is_the_mean_over_all_pairs(scores: np.ndarray) -> None:
    found = disagreement(scores)
    assert ((found >= 0.0) & (found <= 1.0)).all()
    if len(scores) > 1:
        pairs = [disagreement(scores[list(pair)]) for pair in itertools.combinations(range(len(scores)), 2)]
        np.testing.assert_allclose(found, np.mean(pairs, axis=0), atol=1e-12)
    np.testing.assert_allclose(disagreement(np.exp(scores)), found)  # only the order counts


@given(SCORES, st.floats(0.0, 0.4), st.floats(0.6, 1.0))
def test_disagreement_is_how_often_two_decide_differently(scores: np.ndarray, low: float, high: float) -> None:
    scores = scores[:2]
    if len(scores) < 2:
        return
    ranks = [(np.sum(row[None] < row[:, None], axis=1) + np.sum(row[None] <= row[:, None], axis=1)) / 2 / len(row)
             for row in scores]  # fmt: skip
    shares = low + (high - low) * (np.arange(4000) + 0.5) / 4000
    one, other = (rank[:, None] > 1.0 - shares for rank in ranks)
    np.testing.assert_allclose(disagreement(scores, shares=(low, high)), (one != other).mean(axis=1), atol=1e-3)


def test_scores_that_are_none_are_refused() -> None:
    for scores in (np.array([1.0]), np.array([[1.0, np.nan]])):
        with pytest.raises(InvalidArgumentError, match="finite"):
            disagreement(scores)
    for shares in ((0.5, 0.5), (-0.1, 1.0), (0.0, 1.1)):
        with pytest.raises(InvalidArgumentError, match="strong shares"):
            disagreement(np.ones((2, 2)), shares=shares)


POOL = st.integers(0, 40).flatmap(
    lambda count: st.tuples(
        arrays(np.float64, count, elements=st.floats(0.0, 1.0)), arrays(np.int64, count, elements=st.integers(0, 4))
    )
)


@given(POOL, st.integers(0, 50), st.floats(0.0, 1.0))
def test_a_batch_takes_each_prompt_once_and_as_many_as_there_are(
    pool: tuple[np.ndarray, np.ndarray], take: int, share: float
) -> None:
    doubts, cells = pool
    batch = next_batch(doubts, cells, take, doubtful_share=share)
    assert len(batch.rows) == len(set(batch.rows.tolist())) == min(take, len(doubts))
    assert (doubts[batch.rows[batch.is_doubtful]] > 0.0).all()
    assert batch.is_doubtful.sum() <= share * len(batch.rows) + 1e-9
    # Those in turn are the first that were not chosen otherwise.
    turn = [row for row in range(len(doubts)) if row not in batch.rows[batch.is_doubtful]]
    in_turn = sorted(batch.rows[~batch.is_doubtful].tolist())
    assert in_turn == batch.rows[~batch.is_doubtful].tolist()
    assert len(set(in_turn) - set(turn)) == 0
    # A smaller batch is the start of a larger one.
    smaller = next_batch(doubts, cells, take // 2, doubtful_share=share)
    assert smaller.rows.tolist() == batch.rows[: len(smaller.rows)].tolist()


def test_a_batch_is_not_all_of_one_kind() -> None:
    rng = np.random.default_rng(0)
    cells = np.repeat([0, 1, 2, 3], 250)
    rng.shuffle(cells)
    doubts = np.where(cells == 2, 0.5 + 0.1 * rng.random(1000), 0.01 * rng.random(1000))
    batch = next_batch(doubts, cells, 100)
    shares = np.bincount(cells[batch.rows], minlength=4) / 100
    assert 0.5 < shares[2] < 0.75  # half of it by its doubts, and its part of the other half
    assert (shares[[0, 1, 3]] > 0.05).all()
    # Without a pool of doubts, the strata's shares of all doubts.
    doubts = np.array([0.1, 0.2, 0.3, 0.4])[cells]
    batch = next_batch(doubts, cells, 100, doubtful_share=1.0)
    assert np.bincount(cells[batch.rows]).tolist() == [10, 20, 30, 40]


def test_of_a_stratum_the_most_doubtful_come_first() -> None:
    doubts = np.array([0.1, 0.9, 0.5, 0.0, 0.7])
    batch = next_batch(doubts, np.zeros(5, dtype=np.int64), 5, doubtful_share=1.0)
    assert batch.rows.tolist() == [1, 4, 2, 0, 3]
    assert batch.is_doubtful.tolist() == [True, True, True, True, False]  # nobody doubts the last


def test_a_stratum_has_its_first_turn_at_half_a_share() -> None:
    # All of the doubts of a hundred prompts are 10, that of the odd one is 0.3: one in 34, so its turn is the 18th.
    doubts, cells = np.append(np.full(100, 0.1), 0.3), np.append(np.zeros(100, np.int64), 1)
    batch = next_batch(doubts, cells, 40, doubtful_share=1.0)
    assert batch.rows.tolist().index(100) == 17


def test_where_all_agree_the_plan_goes_on() -> None:
    batch = next_batch(np.zeros(6), np.arange(6), 4)
    assert batch.rows.tolist() == [0, 1, 2, 3]
    assert not batch.is_doubtful.any()


def test_the_untouched_part_is_never_among_them() -> None:
    traffic = Traffic.of([f"prompt {i}" for i in range(200)])
    plan = plan_labels(traffic, np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32))
    labelled = {plan.groups[row] for row in plan.order[:50]}
    pool = plan.left(labelled, untouched=False)
    scores = np.random.default_rng(1).random((3, len(pool)))
    batch = next_batch(disagreement(scores), plan.strata.cell[pool], 30)
    places = pool[batch.rows]
    assert len(places) == 30
    assert not plan.is_untouched[places].any()
    assert (places >= 50).all()
    # What is chosen leaves the untouched part as it was.
    before = plan.left(labelled, untouched=True)
    labelled |= {plan.groups[row] for row in plan.order[places]}
    assert plan.left(labelled, untouched=True).tolist() == before.tolist()
    assert len(plan.left(labelled, untouched=False)) == len(pool) - 30


def test_a_batch_of_what_does_not_fit_is_refused() -> None:
    for doubts, cells in (
        (np.ones(3), np.zeros(2, int)),
        (np.array([-0.1]), np.zeros(1, int)),
        (np.array([np.nan]), np.zeros(1, int)),
    ):
        with pytest.raises(InvalidArgumentError, match="doubts"):
            next_batch(doubts, cells, 1)
    with pytest.raises(InvalidArgumentError, match="doubtful share"):
        next_batch(np.ones(1), np.zeros(1, int), 1, doubtful_share=1.5)


@pytest.mark.parametrize(
    ("half_width", "wanted", "prompts_left", "left_usd", "why"),
    [
        (0.03, 0.04, 10, 1.0, Enough.NARROW),
        (0.04, 0.04, 0, 0.0, Enough.NARROW),
        (0.05, 0.04, 10, 1.0, None),
        (0.05, 0.04, 10, None, None),
        (None, 0.04, 10, 1.0, None),
        (0.01, None, 10, 1.0, None),
        (0.05, 0.04, 0, 1.0, Enough.NO_PROMPTS),
        (0.05, 0.04, 10, 0.009, Enough.NO_MONEY),
        (0.05, 0.04, 10, 0.01, None),
        (None, None, 0, 0.0, Enough.NO_PROMPTS),
        (float("nan"), 0.04, 10, 1.0, None),
    ],
)
def test_when_it_is_enough(
    half_width: float | None, wanted: float | None, prompts_left: int, left_usd: float | None, why: Enough | None
) -> None:
    assert why_enough(half_width, wanted, prompts_left=prompts_left, left_usd=left_usd, label_usd=0.01) is why
