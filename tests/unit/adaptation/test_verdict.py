from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from routellm_fast.adaptation.proving import ADAPTED, Choice
from routellm_fast.adaptation.verdict import LEVEL, RIVAL_LEVEL, RIVALS, is_recommended, verdict_on
from routellm_fast.evaluation.results import LENGTH
from tests.support.proof_builders import NOISE, known_traffic, made_labels, noise, quick_proof

# Kinds that say that some router tells prompts apart.
BETTER = {"saves", "missed_quality", "saves_nothing_here", "rival"}


def test_levels_of_all_tests_sum_up_to_one_in_forty():
    assert pytest.approx(0.025) == LEVEL + RIVAL_LEVEL * len(RIVALS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_hardly_ever_called_better(kind):
    """The must of the proof: at most 5 % of traffics on which nothing can be known."""
    found = []
    for seed in range(200):
        labels, score = noise(kind, seed)
        shipped = np.random.default_rng([seed, 99]).random(len(labels))
        found.append(verdict_on(quick_proof(labels, score, shipped=shipped, resamples=20, random_runs=2)).kind)
    assert sum(kind in BETTER for kind in found) <= 10


def test_a_router_that_knows_is_recommended():
    labels, score = known_traffic()
    verdict = verdict_on(quick_proof(labels, score))
    assert verdict.kind == "saves"
    assert is_recommended(verdict)


def test_one_that_knows_nothing_is_not_and_more_labels_are_named():
    labels, _ = known_traffic()
    score = np.random.default_rng(1).random(len(labels))
    verdict = verdict_on(quick_proof(labels, score, all_labels=1000))
    assert verdict.kind == "no_router"
    assert not is_recommended(verdict)
    assert verdict.least_more_labels is not None
    assert verdict.more_labels is None or verdict.more_labels >= verdict.least_more_labels


def test_more_labels_are_counted_in_all_that_are_divided():
    labels, _ = known_traffic()
    score = np.random.default_rng(1).random(len(labels))
    few, many = (verdict_on(quick_proof(labels, score, all_labels=count)) for count in (400, 1200))
    assert few.least_more_labels is not None
    assert many.least_more_labels == pytest.approx(3 * few.least_more_labels, rel=0.1)


def test_labels_to_tell_shrink_with_the_effect():
    proof = quick_proof(*known_traffic(), all_labels=400)
    assert proof.measured is not None

    def with_apgr(value: float, half: float):
        rows = []
        for row in proof.measured.routers:
            apgr = dataclasses.replace(row.metrics.apgr_routellm, value=value, low=value - half, high=value + half)
            metrics = dataclasses.replace(row.metrics, apgr_routellm=apgr)
            rows.append(dataclasses.replace(row, metrics=metrics))
        changed = dataclasses.replace(proof.measured, routers=tuple(rows))
        values = dict.fromkeys(proof.p_values, 0.5)
        return verdict_on(dataclasses.replace(proof, measured=changed, p_values=values))

    # Error 0.05 with 400 groups: 2.895 errors of n groups are 0.05 where n = 400 (2.895 * 0.05 / 0.05)^2 = 3,353.
    found = with_apgr(0.55, 0.05 * 1.96)
    assert found.more_labels == 3000
    assert found.least_more_labels == 40  # 0.148 would be found with the labels there are: a tenth more
    assert with_apgr(0.5, 0.05 * 1.96).more_labels is None
    assert with_apgr(0.3, 0.05 * 1.96).least_more_labels is None


@pytest.mark.parametrize(
    ("strong", "weak", "kind"),
    [
        (np.ones(10), np.zeros(10), "too_few"),
        (np.ones(60), np.ones(60), "all_ties"),
        (np.full(60, 0.3), np.full(60, 0.3), "all_ties"),
        (np.zeros(60), np.zeros(60), "all_ties"),
        (np.arange(60) % 3 > 0, np.ones(60), "send_weak"),
        (np.ones(60), np.arange(60) > 1, "send_weak"),  # 97 % of the quality, and 95 % was asked for
        (np.ones(60), np.zeros(60), "send_strong"),
        (np.full(60, 0.9), np.full(60, 0.2), "send_strong"),
        (np.ones(60), np.arange(60) == 7, "send_strong"),
        (np.where(np.arange(60) < 3, 1.0, 0.2), np.full(60, 0.2), "too_few"),
    ],
)
def test_labels_that_need_no_router(strong, weak, kind):
    score = np.random.default_rng(0).random(len(strong))
    assert verdict_on(quick_proof(made_labels(strong, weak), score)).kind == kind


def test_a_threshold_that_sends_everything_to_the_strong_model_saves_nothing():
    labels, score = known_traffic()
    assert verdict_on(quick_proof(labels, score, Choice("all", 0.0))).kind == "send_strong"


def test_a_strong_model_that_costs_no_more_is_taken():
    labels, score = known_traffic(costs_usd=np.tile([0.001, 0.002], (400, 1)))
    assert verdict_on(quick_proof(labels, score)).kind == "send_strong"


def test_a_quality_that_is_missed_beyond_noise():
    labels, score = known_traffic()
    assert verdict_on(quick_proof(labels, score, Choice("99 %", 0.97, 0.99))).kind == "missed_quality"


def test_a_threshold_at_which_a_mixture_does_as_well():
    labels, score = known_traffic()
    assert verdict_on(quick_proof(labels, score, Choice("none", 1.0))).kind == "saves_nothing_here"


def test_a_rival_that_knows_more():
    labels, score = known_traffic()
    noise_score = np.random.default_rng(1).random(len(labels))
    verdict = verdict_on(quick_proof(labels, noise_score, shipped=score))
    assert (verdict.kind, verdict.rival) == ("rival", RIVALS[0])


def test_rivals_that_are_as_good_are_named():
    labels, score = known_traffic()
    verdict = verdict_on(quick_proof(labels, score, shipped=score**2))
    assert verdict.as_good == (RIVALS[0],)
    assert LENGTH not in verdict.as_good


def test_a_constant_score_is_no_router():
    labels, _ = known_traffic()
    proof = quick_proof(labels, np.full(len(labels), 0.4))
    assert proof.p_values[ADAPTED] == 1.0
    assert verdict_on(proof).kind == "no_router"
