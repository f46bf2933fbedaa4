from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_fast.evaluation import Benchmark, apgr_paper, bootstrap, fine_curve, router_metrics, saving_ratio, sweep
from routellm_fast.evaluation.metrics import oracle_ranks
from tests.support.evaluation_builders import made_benchmark


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, Benchmark]:
    """Win rates with or without ties, and a benchmark on which the strong model is better."""
    count = draw(st.integers(2, 60))
    levels = draw(st.sampled_from([2, 5, 10**6]))
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=count, max_size=count)), dtype=float)
    grades = st.lists(st.integers(0, 4), min_size=count, max_size=count)
    strong, weak = (np.array(draw(grades), dtype=float) for _ in range(2))
    strong[0] += max(0.0, weak.sum() - strong.sum()) + 1.0
    return scores / levels, Benchmark("drawn", tuple(map(str, range(count))), strong, weak, 100.0, 0)


def numbers(scores: np.ndarray, bench: Benchmark) -> list[float]:
    metrics = router_metrics("r", scores, bench)
    return [metrics.apgr, apgr_paper(scores, bench), metrics.cpt20, metrics.cpt50, metrics.cpt80]


@settings(deadline=None)
@given(cases())
def test_order_of_prompts_does_not_matter(case):
    scores, bench = case
    order = np.random.default_rng(len(scores)).permutation(len(scores))
    assert numbers(scores[order], bench.select(order)) == pytest.approx(numbers(scores, bench), abs=1e-9)


@settings(deadline=None)
@given(cases())
def test_a_rising_change_of_win_rates_does_not_matter(case):
    scores, bench = case
    # Whole numbers: between ranks, not within them, so that no rounding makes or breaks a tie.
    ranks = np.unique(scores, return_inverse=True)[1].astype(float)
    assert apgr_paper(ranks**2 + 3.0, bench) == pytest.approx(apgr_paper(scores, bench), abs=1e-12)
    shares = [fine_curve(values, bench).strong_share for values in (ranks**2, scores)]
    np.testing.assert_array_equal(*shares)


@settings(deadline=None)
@given(cases())
def test_nobody_beats_the_oracle(case):
    scores, bench = case
    best = oracle_ranks(bench)
    assert apgr_paper(best, bench) >= apgr_paper(scores, bench) - 1e-9
    own, ideal = (fine_curve(values, bench, points=len(scores)) for values in (scores, best))
    at_most = np.interp(own.strong_share, ideal.strong_share, ideal.quality)
    assert (own.quality <= at_most + 1e-9).all()


@settings(deadline=None)
@given(cases())
def test_a_router_and_its_reverse_are_chance_together(case):
    scores, bench = case
    assert apgr_paper(scores, bench) + apgr_paper(-scores, bench) == pytest.approx(1.0, abs=1e-9)


@settings(deadline=None)
@given(cases())
def test_curves_run_from_one_model_to_the_other(case):
    scores, bench = case
    curve = sweep(scores, bench)
    assert (curve.strong_share[0], curve.strong_share[-1]) == (0.0, 1.0)
    assert (np.diff(curve.strong_share) > 0).all()
    assert curve.quality[0] == pytest.approx(bench.weak_quality.mean())
    assert curve.quality[-1] == pytest.approx(bench.strong_quality.mean())
    for target in (0.2, 0.5, 0.8):
        assert 0.0 < curve.cpt(target) <= 1.0


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(0, 2**32))
def test_draws_are_metrics_of_resampled_prompts(case, seed):
    scores, bench = case
    draws = bootstrap({"r": scores}, bench, resamples=3, seed=seed)["r"]
    for index, drawn in enumerate(np.random.default_rng(seed).integers(len(scores), size=(3, len(scores)))):
        own = bench.select(drawn)
        if own.strong_quality.mean() <= own.weak_quality.mean():
            assert np.isnan(draws["apgr_routellm"][index])
            continue
        metrics = router_metrics("r", scores[drawn], own)
        assert draws["apgr_routellm"][index] == pytest.approx(metrics.apgr, abs=1e-9)
        assert draws["apgr_paper"][index] == pytest.approx(apgr_paper(scores[drawn], own), abs=1e-9)


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_a_dearer_weak_model_leaves_less_to_save(share, random_share, weak_cost):
    free = saving_ratio(share, random_share=random_share)
    paid = saving_ratio(share, random_share=random_share, strong_cost=1.0, weak_cost=weak_cost)
    assert min(free, 1.0) - 1e-9 <= paid <= max(free, 1.0) + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_random_win_rates_are_chance(seed):
    bench = made_benchmark(20_000, seed=seed)
    scores = np.random.default_rng(seed + 100).random(20_000)
    assert router_metrics("r", scores, bench).apgr == pytest.approx(0.5, abs=0.02)
    assert apgr_paper(scores, bench) == pytest.approx(0.5, abs=0.02)
