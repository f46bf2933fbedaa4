from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.adaptation.replacing import compare
from tests.support.proof_builders import known_traffic, made_labels

LABELS, SCORE = known_traffic(300)
NOISE = np.random.default_rng(5).random(300)


def test_the_better_router_takes_the_place():
    found = compare(LABELS, SCORE, NOISE, threshold=0.5, resamples=300)
    assert found.takes_place
    assert found.outcome == "better"
    assert found.apgr is not None
    assert found.apgr.low > 0.0
    assert found.strong_share == pytest.approx((NOISE >= 0.5).mean(), abs=1e-6)


def test_the_worse_one_does_not():
    found = compare(LABELS, NOISE, SCORE, threshold=0.5, resamples=300)
    assert not found.takes_place
    assert found.outcome == "worse"
    assert found.quality.high < 0.0


def test_an_equal_one_takes_the_place():
    found = compare(LABELS, SCORE**3, SCORE, threshold=0.5, resamples=50)
    assert found.takes_place
    assert found.mean_quality.to_list() == found.quality.to_list() == [0.0, 0.0, 0.0]


def test_quality_at_an_equal_share_by_hand():
    labels = made_labels([1, 1, 1, 1], [0, 0, 1, 1])
    new, old = np.array([0.9, 0.8, 0.2, 0.1]), np.array([0.9, 0.2, 0.8, 0.1])
    found = compare(labels, new, old, threshold=0.5, resamples=50)
    # Half of the prompts go to the strong model: the new router picks both that gain, the old one picks one.
    assert (found.strong_share, found.quality.value) == (0.5, 0.25)


@pytest.mark.parametrize("strong", [np.zeros(60), np.ones(60)])
def test_labels_without_a_gap_are_compared_all_the_same(strong):
    found = compare(made_labels(strong, np.ones(60)), SCORE[:60], NOISE[:60], threshold=0.5, resamples=50)
    assert found.apgr is None
    assert np.isfinite(found.mean_quality.to_list()).all()


def test_one_label():
    found = compare(made_labels([1], [0]), np.array([0.5]), np.array([0.4]), threshold=0.5, resamples=20)
    assert found.takes_place
    assert found.prompts == 1


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "least", "most"), [(0.0, 0.10, 0.23), (0.6, 0.0, 0.01), (-0.6, 0.78, 0.92)])
def test_how_often_the_newer_router_is_refused(weight, least, most):
    """Equally good ones in one case of six; better ones hardly ever, ones worse by two errors in five of six."""
    refused = 0
    for seed in range(200):
        labels, _ = known_traffic(120, seed=seed)
        rng = np.random.default_rng([seed, 1])
        gap, noise = labels.gap, rng.normal(size=(2, 120))
        new, old = (0.6 + weight) * gap + noise[0], 0.6 * gap + noise[1]
        refused += not compare(labels, new, old, threshold=0.0, resamples=100, seed=seed).takes_place
    assert least <= refused / 200 <= most


@pytest.mark.parametrize("scores", [np.zeros(2), np.full(300, np.nan)])
def test_scores_that_do_not_fit(scores):
    with pytest.raises(InvalidArgumentError, match="300 finite win rates"):
        compare(LABELS, scores, SCORE, threshold=0.5)
