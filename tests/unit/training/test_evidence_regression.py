from __future__ import annotations

import numpy as np
import pytest

from routellm_fast.training.evidence_regression import VARIANCES, Learned, learn

WORDS, FEATURES = 12, (12, 13, 14)
DIM = WORDS + len(FEATURES)
PRIOR = np.zeros(DIM)
PRIOR[0] = 1.0


def rows(count: int, seed: int = 0) -> np.ndarray:
    embeddings = np.random.default_rng(seed).normal(size=(count, DIM))
    embeddings[:, :WORDS] *= 0.05
    return embeddings


def order(learned: Learned, embeddings: np.ndarray) -> np.ndarray:
    return embeddings @ learned.vector + learned.offset


def test_the_mean_of_the_posterior_is_that_of_the_normal_model() -> None:
    """Beside the textbook formula, for each hypothesis by its own marginal likelihood."""
    embeddings, rng = rows(40), np.random.default_rng(1)
    gaps = embeddings[:, 12] + rng.normal(size=40)
    centred = embeddings - embeddings.mean(axis=0)
    # Along its main directions the prior variance of a coefficient is in proportion to the variance: K = T C T'.
    kernel = centred[:, :WORDS] @ np.cov(centred[:, :WORDS].T, bias=True) @ centred[:, :WORDS].T
    kernel /= np.trace(kernel) / 40
    features = centred[:, WORDS:] / centred[:, WORDS:].std(axis=0) / np.sqrt(3)
    prior = centred @ PRIOR / (centred @ PRIOR).std()
    target = (gaps - gaps.mean()) / gaps.std()
    logs, means = [], []
    for of_features in VARIANCES:
        for of_words in VARIANCES:
            signal = 0.0025 * np.outer(prior, prior) + of_words * kernel + of_features * features @ features.T
            covariance = signal + np.eye(40)
            residual = target - 0.12 * prior
            solved = np.linalg.solve(covariance, residual)
            log = -0.5 * residual @ solved - 0.5 * np.linalg.slogdet(covariance)[1]
            logs.append(log + np.log(8.0) * ((of_features == 0) + (of_words == 0)))
            means.append(0.12 * prior + signal @ solved)
    probability = np.exp(np.array(logs) - max(logs))
    probability /= probability.sum()
    learned = learn(embeddings, gaps, PRIOR, features=FEATURES)
    np.testing.assert_allclose([share for *_, share in learned.evidence], probability, rtol=1e-8)
    np.testing.assert_allclose(order(learned, embeddings), probability @ np.array(means), rtol=1e-8, atol=1e-12)


def test_labels_of_noise_leave_the_prior_in_charge() -> None:
    embeddings, fresh = rows(300), rows(2000, seed=9)
    found = [
        learn(embeddings, np.random.default_rng(seed).normal(size=300), PRIOR, features=FEATURES) for seed in range(20)
    ]
    # Before any label the odds that something is said are even.
    assert np.mean([learned.said_by_features for learned in found]) < 0.4
    assert np.mean([learned.said_by_words for learned in found]) < 0.4
    # What is learned of noise is small beside what clear labels teach, and leans to the prior.
    assert np.mean([order(learned, fresh).std() for learned in found]) < 0.15
    assert np.mean([np.corrcoef(order(learned, fresh), fresh @ PRIOR)[0, 1] for learned in found]) > 0.3


@pytest.mark.parametrize(("column", "said"), [(13, "said_by_features"), (5, "said_by_words")])
def test_what_labels_say_clearly_is_learned(column: int, said: str) -> None:
    embeddings, fresh = rows(400), rows(2000, seed=9)
    truth = embeddings[:, column] / embeddings[:, column].std()
    gaps = 0.7 * truth + np.random.default_rng(4).normal(size=400)
    learned = learn(embeddings, gaps, PRIOR, features=FEATURES)
    assert getattr(learned, said) > 0.99
    assert np.corrcoef(order(learned, fresh), fresh[:, column])[0, 1] > 0.8


def test_more_labels_are_followed_further() -> None:
    fresh = rows(2000, seed=9)
    found = []
    for count in (30, 100, 300, 1000):
        embeddings = rows(count)
        gaps = 0.3 * embeddings[:, 12] + np.random.default_rng(5).normal(size=count)
        learned = learn(embeddings, gaps, PRIOR, features=FEATURES)
        found.append(np.corrcoef(order(learned, fresh), fresh[:, 12])[0, 1])
    assert max(found[:2]) < found[2] < found[3]
    assert found[3] > 0.94


@pytest.mark.parametrize("gaps", [np.zeros(30), np.full(30, -0.5)])
def test_gaps_that_are_all_alike_leave_the_prior(gaps: np.ndarray) -> None:
    embeddings = rows(30)
    learned = learn(embeddings, gaps, PRIOR, features=FEATURES)
    np.testing.assert_allclose(np.corrcoef(order(learned, embeddings), embeddings @ PRIOR)[0, 1], 1.0)
    assert (learned.said_by_features, learned.said_by_words) == (0.0, 0.0)


def test_dimensions_that_do_not_vary_count_for_nothing() -> None:
    embeddings = rows(60)
    embeddings[:, 14] = 1.0
    learned = learn(embeddings, np.random.default_rng(6).normal(size=60), PRIOR, features=FEATURES)
    assert learned.vector[14] == 0.0
    flat = np.ones((30, DIM))
    nothing = learn(flat, np.arange(30.0), PRIOR, features=FEATURES)
    assert np.isfinite(nothing.vector).all()
    assert not nothing.vector.any()


def test_the_scale_of_gaps_does_not_count() -> None:
    embeddings = rows(80)
    gaps = np.random.default_rng(7).normal(size=80)
    once, thrice = (learn(embeddings, scale * gaps + scale, PRIOR, features=FEATURES) for scale in (1.0, 3.0))
    np.testing.assert_allclose(once.vector, thrice.vector, rtol=1e-9)
