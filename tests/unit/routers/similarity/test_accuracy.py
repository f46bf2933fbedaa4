"""sw_ranking of every precision beside the float64 restatement, on the kinds of embeddings it is made for."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.routers import SimilarityWeightedRouter
from routellm_fast.routers.similarity.router import PRECISIONS
from tests.support.sw_data import (
    Battles,
    battles_for,
    openai_like,
    openai_like_queries,
    real_embeddings,
    with_near_duplicates,
)
from tests.support.sw_reference import SimilarityWeighted, fit_rows_lbfgs, global_ratings, tiers_of

QUERIES = 1000
# What float32 dot products leave of a win rate over so many battles.
SUMMED = 1e-7


class Case(NamedTuple):
    """A bank with its battles, queries, and the win rates of the float64 restatement."""

    bank: np.ndarray
    battles: Battles
    queries: np.ndarray
    strong: str
    weak: str
    truth: SimilarityWeighted
    expected: np.ndarray

    def router(self, precision: str, **options: Any) -> SimilarityWeightedRouter:
        pair = {"strong_model": self.strong, "weak_model": self.weak}
        return SimilarityWeightedRouter.build(
            self.bank, *self.battles, embedder=self.row_numbers(), precision=precision, **pair, **options
        )

    def row_numbers(self) -> rf.FunctionEmbedder:
        """An embedder whose texts are row numbers of the queries."""
        dim = self.bank.shape[1]
        return rf.FunctionEmbedder(lambda texts: self.queries[[int(text) for text in texts]], dim=dim, name="queries")


@functools.lru_cache(maxsize=2)  # pytest orders tests by precision before kind
def make_case(shared_data: Path | None, count: int) -> Case:
    """Real texts where there is data, openai_like rows where there is none."""
    if shared_data is not None:
        rows = real_embeddings(shared_data, count + QUERIES)
        # Texts lie by source, windows after whole texts: mixed, so that queries come from all of them.
        rows = rows[np.random.default_rng(count).permutation(len(rows))]
        bank, queries = rows[:count].copy(), with_near_duplicates(rows[count:], rows[:count])
    else:
        bank = openai_like(count)
        queries = openai_like_queries(bank, QUERIES)
    battles = battles_for(bank)
    pair = {"strong_model": battles.model_a[0], "weak_model": battles.model_b[0]}
    tiers = SimilarityWeightedRouter.build(bank, *battles, embedder=None, **pair).tiers
    # The pair that RouteLLM routes between lies in tiers 0 and 2 of its data.
    first_of = {tier: name for name, tier in tiers.items()}
    strong, weak = first_of[0], first_of[2]
    truth = SimilarityWeighted(bank, *battles, tiers=tiers)
    assert truth.is_determined(strong, weak)
    return Case(bank, battles, queries, strong, weak, truth, truth.win_rates(queries, strong, weak))


LARGE = [pytest.param(count, marks=pytest.mark.slow) for count in (65_000, 160_000)]


@pytest.fixture(scope="module", params=[10_000, *LARGE])
def count(request: pytest.FixtureRequest) -> int:
    if request.param > 10_000 and "slow" not in request.config.option.markexpr:
        pytest.skip("takes minutes and gigabytes: run with -m slow")
    return int(request.param)


@pytest.fixture(scope="module", params=["openai-like", "real text"])
def case(request: pytest.FixtureRequest, count: int) -> Case:
    return make_case(request.getfixturevalue("shared_data") if request.param == "real text" else None, count)


@pytest.fixture(scope="module", params=PRECISIONS)
def precise(request: pytest.FixtureRequest, case: Case) -> tuple[Case, SimilarityWeightedRouter]:
    return case, case.router(request.param)


@pytest.fixture(scope="module")
def exact(case: Case) -> SimilarityWeightedRouter:
    """The float32 router whose decisions all precisions must take."""
    return case.router("float32")


def test_the_synthetic_bank_has_the_shape_it_claims() -> None:
    bank = openai_like(5000)
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1.0, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(bank[:300], openai_like(300))
    cosines = bank[::5] @ bank[::5].T
    np.fill_diagonal(cosines, np.nan)
    assert 0.18 < np.nanmean(cosines) < 0.24
    assert 0.03 < 1.0 - len(np.unique(bank, axis=0)) / len(bank) < 0.07
    battles = battles_for(bank)
    assert 0.25 < battles.winner.count("tie") / len(bank) < 0.35
    assert battles_for(bank) == battles


def test_ratings_and_tiers_are_the_restatements(case: Case, exact: SimilarityWeightedRouter) -> None:
    best_first = dict(sorted(exact.ratings.items(), key=lambda item: -item[1]))
    assert exact.tiers == tiers_of(best_first, 10)
    assert (exact.battle_count, exact.dim) == case.bank.shape
    # RouteLLM stops short of the maximum, a few Elo from it for rare models.
    assert exact.ratings == pytest.approx(global_ratings(*case.battles), abs=10.0)
    pytest.importorskip("scipy")
    assert exact.ratings == pytest.approx(global_ratings(*case.battles, fit_rows_lbfgs), abs=1e-6)


def test_win_rates_lie_within_the_stated_error(precise: tuple[Case, SimilarityWeightedRouter]) -> None:
    case, router = precise
    error = np.abs(router.win_rates_from_embeddings(case.queries) - case.expected).max()
    # Apart from the bound that a router states: what is asked of each precision. Moments are for large banks.
    asked = {"float32": 1e-6, "int8": 1e-3}.get(router.precision, 1.0)
    stated = router.error_bound if router.precision != "float32" else 1e-6
    assert error <= min(asked, stated)
    assert (router.error_bound == 0.0) == (router.precision == "float32")


def test_exact_win_rates_are_the_restatements(precise: tuple[Case, SimilarityWeightedRouter]) -> None:
    case, router = precise
    queries = case.queries[:200]
    found = router.exact_win_rates_from_embeddings(queries)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, case.expected[:200], rtol=0, atol=SUMMED)


def test_tier_ratings_are_the_restatements(precise: tuple[Case, SimilarityWeightedRouter]) -> None:
    case, router = precise
    found = router.tier_ratings_from_embeddings(case.queries[:20])
    assert found.shape == (20, 10)
    tolerance = 1e-5 if router.precision == "float32" else 20 * router.error_bound
    np.testing.assert_allclose(found, case.truth.tier_ratings(case.queries[:20]), rtol=0, atol=tolerance)


def test_every_precision_takes_the_exact_decisions(
    precise: tuple[Case, SimilarityWeightedRouter], exact: SimilarityWeightedRouter
) -> None:
    case, router = precise
    rows = range(0, QUERIES, 20)
    prompts = [str(row) for row in rows]
    rates = exact.win_rates(prompts)
    between = np.quantile(case.expected, np.linspace(0.05, 0.95, 7))
    # A threshold taken from a calibration is a win rate of some prompt: equality must decide alike too.
    for threshold in [*between.tolist(), *rates[::17].tolist(), 0.0, 1.0]:
        found = [decision.is_strong for decision in router.route_batch(prompts, threshold)]
        assert found == (rates >= threshold).tolist()
        assert found[:5] == [router.route(prompt, threshold).is_strong for prompt in prompts[:5]]
    for threshold in between:
        clear = np.abs(case.expected[rows] - threshold) > 1e-6
        found = np.array([decision.is_strong for decision in router.route_batch(prompts, threshold)])
        assert (found == (case.expected[rows] >= threshold))[clear].all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_batch_its_rows_and_any_number_of_threads_agree_bitwise(precision: str) -> None:
    bank = openai_like(3000, 384)
    battles = battles_for(bank, models=12)
    queries = openai_like_queries(bank, 300)

    def router(threads: int) -> SimilarityWeightedRouter:
        pair = {"strong_model": "model-00", "weak_model": "model-03"}
        options = {"precision": precision, "threads": threads, "embedder": None}
        return SimilarityWeightedRouter.build(bank, *battles, **pair, **options)

    single = router(threads=1)
    assert single.tiers["model-00"] != single.tiers["model-03"]
    rates = single.win_rates_from_embeddings(queries)
    assert [single.win_rate_from_embedding(query) for query in queries] == rates.tolist()
    for size in (1, 2, 7, 33):
        np.testing.assert_array_equal(single.win_rates_from_embeddings(queries[5 : 5 + size]), rates[5 : 5 + size])
    ratings = single.tier_ratings_from_embeddings(queries)
    for threads in (2, 3):
        threaded = router(threads)
        np.testing.assert_array_equal(threaded.win_rates_from_embeddings(queries), rates)
        np.testing.assert_array_equal(threaded.tier_ratings_from_embeddings(queries), ratings)


def test_battles_within_a_tier_can_be_ignored(case: Case) -> None:
    if len(case.bank) > 10_000:
        pytest.skip("the rule does not depend on the number of battles")
    truth = SimilarityWeighted(case.bank, *case.battles, same_tier="ignore", tiers=case.truth.tiers)
    queries = case.queries[:100]
    expected = truth.win_rates(queries, case.strong, case.weak)
    assert np.abs(expected - case.expected[:100]).max() > 1e-4
    found = case.router("float32", same_tier="ignore").win_rates_from_embeddings(queries)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_similarities_that_are_all_negative_follow_the_formula_beyond_any_float() -> None:
    """One battle lies almost at right angles to the query, all others have weights of 10**400 and more."""
    rng = np.random.default_rng(3)
    cosine = np.append(-0.001, -rng.uniform(0.4, 0.405, size=599))
    side = rng.normal(size=(600, 31))
    side *= (np.sqrt(1.0 - cosine**2) / np.linalg.norm(side, axis=1))[:, None]
    bank = np.column_stack([cosine, side]).astype(np.float32)
    query = np.eye(1, 32, dtype=np.float32)
    battles = battles_for(bank, models=6)
    pair = {"strong_model": "model-00", "weak_model": "model-03"}
    router = SimilarityWeightedRouter.build(bank, *battles, embedder=None, num_tiers=4, **pair)
    truth = SimilarityWeighted(bank, *battles, num_tiers=4)
    expected = truth.win_rates(query, *pair.values())
    assert router.tiers["model-00"] != router.tiers["model-03"]
    # A float32 similarity is off by 1e-8, which is 1e-5 of the largest one.
    np.testing.assert_allclose(router.exact_win_rates_from_embeddings(query), expected, rtol=0, atol=1e-5)
