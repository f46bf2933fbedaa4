from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError
from routellm_fast.evaluation import (
    Benchmark,
    Curve,
    apgr_paper,
    fine_curve,
    length_metrics,
    oracle_metrics,
    random_metrics,
    router_metrics,
    sweep,
)


def benchmark(count: int = 200, seed: int = 0) -> Benchmark:
    rng = np.random.default_rng(seed)
    strong, weak = (rng.random(count) < 0.8).astype(float), (rng.random(count) < 0.5).astype(float)
    prompts = tuple("word " * int(n) for n in rng.integers(1, 40, size=count))
    return Benchmark("tiny", prompts, strong, weak, 1.0, 0)


def test_a_curve_by_hand():
    bench = Benchmark("two", ("a", "b"), np.array([1.0, 1.0]), np.array([0.0, 1.0]), 1.0, 0)
    curve = sweep(np.array([0.9, 0.1]), bench, bins=1)
    np.testing.assert_array_equal(curve.strong_share, [0.0, 1.0])
    np.testing.assert_array_equal(curve.quality, [0.5, 1.0])
    assert curve.apgr == pytest.approx(0.5)
    assert curve.cpt(0.5) == pytest.approx(0.5)


def test_ends_of_the_curve_are_the_two_models():
    bench = benchmark()
    curve = sweep(np.random.default_rng(1).random(200), bench)
    assert len(curve.strong_share) == 11
    assert (curve.strong_share[0], curve.strong_share[-1]) == (0.0, 1.0)
    assert curve.quality[0] == pytest.approx(bench.weak_quality.mean())
    assert curve.quality[-1] == pytest.approx(bench.strong_quality.mean())


def test_apgr_does_not_see_a_monotone_change_of_the_scores():
    scores, bench = np.random.default_rng(2).normal(size=200), benchmark()
    assert router_metrics("x", scores, bench).apgr == router_metrics("x", np.arctan(scores), bench).apgr


def test_equal_scores_are_chance():
    assert router_metrics("constant", np.full(200, 0.3), benchmark()).apgr == pytest.approx(0.5)
    tied = np.repeat([0.1, 0.9], 100)
    curve = sweep(tied, benchmark())
    assert (np.diff(curve.strong_share) > 0).all()


def test_baselines_are_in_order():
    bench = benchmark(2000)
    rand, best = random_metrics(bench), oracle_metrics(bench)
    assert abs(rand.apgr - 0.5) < 0.1
    assert rand.apgr_deviation > 0
    assert random_metrics(bench) == rand
    assert best.apgr > 1.0 > rand.apgr
    assert best.cpt80 < rand.cpt80
    assert 0.0 <= length_metrics(bench).cpt50 <= 1.0


def test_oracle_is_not_beaten_by_a_sweep_of_the_gains():
    bench = benchmark(500)
    gains = bench.strong_quality - bench.weak_quality + np.linspace(0, 1e-6, 500)
    assert oracle_metrics(bench).apgr >= router_metrics("gains", gains, bench).apgr - 1e-9


def test_a_partial_range_is_measured_over_itself():
    curve = Curve(np.array([0.2, 0.6]), np.array([0.5, 0.5]), 1.0, 0.0)
    assert curve.apgr == pytest.approx(0.5)


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((200, 1)), np.full(200, np.nan)])
def test_bad_scores(scores):
    with pytest.raises(InvalidArgumentError, match="200 finite win rates"):
        sweep(scores, benchmark())


def test_a_last_group_of_equal_scores_is_still_chosen():
    """The best tenth and more of the prompts share the highest win rate: they are one point of the curve."""
    quality = np.repeat([1.0, 0.0], 50)
    bench = Benchmark("x", ("p",) * 100, quality, np.zeros(100), 1.0, 0)
    curve = sweep(np.repeat([0.9, 0.1], 50), bench)
    np.testing.assert_allclose(curve.strong_share, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(curve.quality, [0.0, 0.5, 0.5])
    assert curve.apgr == pytest.approx(0.75)


def test_apgr_of_the_paper_by_hand():
    # Twenty prompts, of which the first five are worth the strong model: PGR is 20 c up to 5 of 20, then 1.
    strong, weak = np.ones(20), np.repeat([0.0, 1.0], [5, 15])
    bench = Benchmark("x", ("p",) * 20, strong, weak, 1.0, 0)
    assert apgr_paper(-np.arange(20.0), bench) == pytest.approx((0.2 + 0.6 + 8.0) / 10)
    assert apgr_paper(np.arange(20.0), bench) == pytest.approx((0.4 + 0.8) / 10)
    # Equal win rates go in proportion.
    assert apgr_paper(np.zeros(20), bench) == pytest.approx(0.5)
    assert apgr_paper(np.repeat([1.0, 0.0], 10), bench) == pytest.approx((0.1 + 0.3 + 0.5 + 0.7 + 0.9 + 5) / 10)


def test_fine_curves():
    bench = benchmark(250)
    scores = np.random.default_rng(5).random(250)
    curve = fine_curve(scores, bench, points=100)
    assert len(curve.strong_share) == 101
    assert (np.diff(curve.strong_share) > 0).all()
    assert (np.diff(curve.threshold) < 0).all()
    for share, quality, threshold in zip(curve.strong_share, curve.quality, curve.threshold, strict=True):
        chosen = scores >= threshold
        assert chosen.mean() == pytest.approx(share)
        assert np.where(chosen, bench.strong_quality, bench.weak_quality).mean() == pytest.approx(quality)
    tied = fine_curve(np.round(scores, 1), bench)
    assert len(tied.strong_share) <= 12
    assert len(fine_curve(np.zeros(250), bench).strong_share) == 2


def test_equal_models_have_no_apgr():
    bench = Benchmark("even", ("a", "b"), np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1.0, 0)
    with pytest.raises(DataError, match=r"both models score 0\.5"):
        sweep(np.array([0.1, 0.2]), bench).apgr  # noqa: B018
    with pytest.raises(DataError, match=r"even: both models score 0\.5"):
        apgr_paper(np.array([0.1, 0.2]), bench)
    with pytest.raises(DataError, match="both models"):
        length_metrics(bench)


def test_the_first_bad_win_rate_is_named():
    scores = np.zeros(200)
    scores[[7, 9]] = np.inf
    with pytest.raises(InvalidArgumentError, match="found 2 that are not, the first inf at prompt 7"):
        sweep(scores, benchmark())
