from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from routellm_fast.adaptation.association import least_p_value, p_values
from routellm_fast.adaptation.verdict import LEVEL
from tests.support.proof_builders import NOISE, noise


def p_of(scores, gap, groups=None, **fields) -> float:
    names = [str(group) for group in (range(len(gap)) if groups is None else groups)]
    return p_values({"router": np.asarray(scores, float)}, np.asarray(gap, float), names, **fields)["router"]


def test_it_agrees_with_all_permutations_of_a_few_prompts():
    scores, gap = np.array([1.0, 2.0, 2.0, 4.0, 5.0, 6.0]), np.array([-1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    ranks = np.array([1.0, 2.5, 2.5, 4.0, 5.0, 6.0])
    sums = [float(ranks @ gap[list(order)]) for order in permutations(range(6))]
    exact = np.mean([total >= ranks @ gap - 1e-9 for total in sums])
    assert p_of(scores, gap, deals=39_999) == pytest.approx(exact, abs=0.01)


def test_only_the_order_of_scores_counts():
    rng = np.random.default_rng(0)
    scores, gap = rng.normal(size=60), rng.normal(size=60)
    assert p_of(scores, gap, deals=199) == p_of(np.exp(3 * scores), gap, deals=199)


def test_what_is_known_is_found_and_what_is_backwards_is_not():
    gap = np.random.default_rng(0).normal(size=60)
    assert p_of(gap, gap, deals=999) == 0.001
    assert p_of(-gap, gap, deals=999) > 0.99


@pytest.mark.parametrize(("scores", "gap"), [(np.zeros(30), np.arange(30)), (np.arange(30), np.full(30, 0.1))])
def test_nothing_to_tell_apart_is_no_evidence(scores, gap):
    assert p_of(scores, gap, deals=99) == 1.0


@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_believed_no_more_often_than_the_level_says(kind):
    believed = 0
    for seed in range(400):
        labels, score = noise(kind, seed)
        believed += p_values({"a": score}, labels.gap, labels.groups, deals=199, seed=3)["a"] <= LEVEL
    assert believed <= 18  # 8 expected; more would happen once in 1,500 times


def test_copies_of_a_prompt_are_no_evidence():
    """Groups of twenty prompts with one score and one gap: to a test of prompts they would look like proof."""
    naive, believed = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(10), 20)
        scores, gap = rng.random(10)[groups], rng.normal(size=10)[groups]
        believed += p_of(scores, gap, groups, deals=199) <= LEVEL
        naive += p_of(scores, gap, deals=199) <= LEVEL
    assert naive > 50
    assert believed <= 12


def test_a_group_without_another_of_its_size_says_nothing():
    rng = np.random.default_rng(1)
    scores, gap = np.concatenate([np.ones(50), rng.random(30)]), np.concatenate([np.ones(50), np.zeros(30)])
    groups = np.concatenate([np.zeros(50), np.arange(1, 31)])
    assert p_of(scores, gap, groups, deals=99) == 1.0


def test_all_routers_meet_the_same_deals():
    labels, score = noise("continuous", 5)
    found = p_values({"a": score, "b": 2.0 * score}, labels.gap, labels.groups, deals=199)
    assert found["a"] == found["b"] == p_values({"a": score}, labels.gap, labels.groups, deals=199)["a"]


@pytest.mark.parametrize(
    ("gap", "groups", "expected"),
    [
        ([0, 0, 0, 1], "abcd", 1 / 4),
        ([0, 0, 1, 1], "abcd", 1 / 6),
        ([0, 0, 0, 0], "abcd", 1.0),
        ([0, 0, 1, 1], "aabb", 1 / 2),
        ([0, 0, 1, 0.5], "aabc", 1 / 2),
    ],
)
def test_the_least_p_value_by_hand(gap, groups, expected):
    assert least_p_value(np.array(gap, float), list(groups)) == pytest.approx(expected)
