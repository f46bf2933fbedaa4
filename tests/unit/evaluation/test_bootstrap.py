from __future__ import annotations

import time

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError
from routellm_fast.evaluation import Benchmark, apgr_paper, bootstrap, interval, random_runs, router_metrics
from routellm_fast.evaluation.bootstrap import quality_draws
from routellm_fast.evaluation.curves import METRICS
from tests.support.evaluation_builders import knowing_router, made_benchmark


def test_every_resample_has_the_metrics_of_its_prompts():
    bench = made_benchmark(60, strong_quality=np.random.default_rng(1).random(60) + 0.4)
    scores = np.round(np.random.default_rng(2).random(60), 1)  # with ties
    draws = bootstrap({"router": scores}, bench, resamples=25, seed=7)["router"]
    rows = np.random.default_rng(7).integers(60, size=(25, 60))
    for index, drawn in enumerate(rows):
        own = bench.select(drawn)
        metrics = router_metrics("router", scores[drawn], own)
        expected = [metrics.apgr, apgr_paper(scores[drawn], own), metrics.cpt20, metrics.cpt50, metrics.cpt80]
        assert [draws[name][index] for name in METRICS] == pytest.approx(expected, abs=1e-9)


def test_seed_decides():
    bench, scores = made_benchmark(), np.random.default_rng(0).random(200)
    first, again, other = (bootstrap({"r": scores}, bench, resamples=50, seed=seed)["r"] for seed in (1, 1, 2))
    for name in METRICS:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["cpt50"], other["cpt50"])


def test_routers_meet_the_same_resamples():
    bench, scores = made_benchmark(), np.random.default_rng(0).random(200)
    draws = bootstrap({"one": scores, "two": scores * 0.5 + 0.1}, bench, resamples=50)
    np.testing.assert_array_equal(draws["one"]["apgr_paper"], draws["two"]["apgr_paper"])


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """The whole population is known; most samples of it have an interval that holds its APGR."""
    population = made_benchmark(20_000, seed=3)
    router = knowing_router(population)
    scores = router.win_rates(population.prompts)
    truth = router_metrics("router", scores, population).apgr
    rng, covered = np.random.default_rng(4), 0
    for trial in range(60):
        rows = rng.choice(20_000, size=300, replace=False)
        draws = bootstrap({"r": scores[rows]}, population.select(rows), resamples=300, seed=trial, with_cpt=False)["r"]
        found = interval(0.0, draws["apgr_routellm"])
        covered += found.low <= truth <= found.high
    assert covered >= 51  # 57 expected; fewer than 51 would happen once in 200 times


def test_without_a_gap_nothing_is_defined():
    quality = np.array([1.0, 0.0, 1.0])
    bench = Benchmark("flat", ("a", "b", "c"), quality, np.array([0.0, 1.0, 0.9]), 1.0, 0)
    draws = bootstrap({"r": np.array([0.1, 0.2, 0.3])}, bench, resamples=200)["r"]
    undefined = np.isnan(draws["apgr_routellm"])
    assert 0 < undefined.sum() < 200
    assert all(np.array_equal(np.isnan(draws[name]), undefined) for name in METRICS)
    assert np.isfinite([interval(0.5, draws["cpt50"]).low, interval(0.5, draws["cpt50"]).high]).all()


def test_interval_of_draws_by_hand():
    found = interval(3.0, np.array([np.nan, *range(101)], dtype=float))
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 2.5, 97.5))
    assert interval(3.0, np.array([np.nan])).width == 0.0


def test_random_routing_is_half():
    runs = random_runs(made_benchmark(500), runs=400, seed=1)
    assert set(runs) == set(METRICS)
    for name, expected in zip(METRICS, (0.5, 0.5, 0.2, 0.5, 0.8), strict=True):
        assert runs[name].mean() == pytest.approx(expected, abs=0.02)
        assert runs[name].std() > 0.0


@pytest.mark.parametrize("scores", [np.zeros(3), np.full(200, np.nan)])
def test_bad_scores(scores):
    with pytest.raises(InvalidArgumentError, match="200 finite win rates"):
        bootstrap({"r": scores}, made_benchmark())


def test_no_resamples():
    with pytest.raises(InvalidArgumentError, match="at least one resample"):
        bootstrap({}, made_benchmark(), resamples=0)


def test_thousands_of_resamples_of_thousands_of_prompts_take_seconds():
    bench = made_benchmark(14_037)
    start = time.process_time()
    bootstrap({"r": np.random.default_rng(0).random(14_037)}, bench, resamples=500)
    assert time.process_time() - start < 10.0  # 0.5 s on an idle core


GROUPS = (*"aabbbcddddeeeffg", *(f"single {number}" for number in range(24)))


def test_resamples_draw_whole_groups():
    bench = made_benchmark(40, strong_quality=np.random.default_rng(1).random(40) + 0.4, groups=GROUPS)
    scores = np.round(np.random.default_rng(2).random(40), 1)  # with ties
    draws = bootstrap({"router": scores}, bench, resamples=25, seed=7)["router"]
    names = list(dict.fromkeys(GROUPS))
    for index, drawn in enumerate(np.random.default_rng(7).integers(len(names), size=(25, len(names)))):
        rows = np.concatenate([np.flatnonzero(np.array(GROUPS) == names[number]) for number in drawn])
        own = bench.select(rows)
        metrics = router_metrics("router", scores[rows], own)
        expected = [metrics.apgr, apgr_paper(scores[rows], own), metrics.cpt20, metrics.cpt50, metrics.cpt80]
        assert [draws[name][index] for name in METRICS] == pytest.approx(expected, abs=1e-9)


def test_groups_of_one_prompt_change_nothing():
    bench, scores = made_benchmark(50), np.random.default_rng(0).random(50)
    grouped = made_benchmark(50, groups=tuple(f"group {number}" for number in range(50, 0, -1)))
    alone, together = (bootstrap({"r": scores}, one, resamples=30)["r"] for one in (bench, grouped))
    for name in METRICS:
        np.testing.assert_array_equal(alone[name], together[name])


def test_quality_at_exact_shares():
    bench = made_benchmark(40, groups=GROUPS)
    scores = np.round(np.random.default_rng(2).random(40), 1)  # with ties
    shares = np.array([0.0, 0.3, 0.5, 1.0])
    found = quality_draws({"r": scores}, bench, shares, resamples=25, seed=7)["r"]
    assert found.shape == (26, 4)
    names = list(dict.fromkeys(GROUPS))
    drawn = np.random.default_rng(7).integers(len(names), size=(25, len(names)))
    samples = [np.arange(40)]
    samples += [np.concatenate([np.flatnonzero(np.array(GROUPS) == names[number]) for number in row]) for row in drawn]
    for values, rows in zip(found, samples, strict=True):
        strong, weak, own = bench.strong_quality[rows], bench.weak_quality[rows], scores[rows]
        for value, share in zip(values, shares, strict=True):
            left, gained = share * len(rows), 0.0
            for level in np.unique(own)[::-1]:  # equal prompts go in proportion
                at = own == level
                part = min(1.0, left / at.sum())
                gained += part * (strong - weak)[at].sum()
                left -= part * at.sum()
            assert value == pytest.approx((weak.sum() + gained) / len(rows))


def test_quality_is_defined_without_a_gap():
    bench = made_benchmark(30, strong_quality=np.zeros(30), weak_quality=np.ones(30))
    found = quality_draws({"r": np.arange(30.0)}, bench, np.array([0.0, 0.5, 1.0]), resamples=3)["r"]
    np.testing.assert_allclose(found, np.tile([1.0, 0.5, 0.0], (4, 1)))
