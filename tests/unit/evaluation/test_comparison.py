from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, ModelPair
from routellm_fast.evaluation import (
    Benchmark,
    Evaluation,
    RouterIdentity,
    apgr_paper,
    evaluate,
    router_metrics,
)
from routellm_fast.evaluation.results import BenchmarkResult, RouterResult
from routellm_fast.prices import PriceList
from tests.support.evaluation_builders import PAIR, TableRouter, knowing_router, made_benchmark

FEW = {"resamples": 40, "random_runs": 40, "created": "2026-11-24"}


def rows(result: BenchmarkResult) -> dict[str, RouterResult]:
    return {row.name: row for row in result.routers}


def test_routers_stand_beside_baselines_and_bound():
    bench = made_benchmark(400)
    good, poor = knowing_router(bench, 0.7), knowing_router(bench, 0.0)
    found = evaluate({"good": good, "poor": poor}, [bench], **FEW).benchmarks[0]
    assert [(row.name, row.role) for row in found.routers] == [
        ("good", "router"),
        ("poor", "router"),
        ("prompt length", "baseline"),
        ("random", "baseline"),
        ("oracle", "bound"),
    ]
    assert found.best_single == ("large", pytest.approx(bench.strong_quality.mean()))
    by_name = rows(found)
    scores = good.win_rates(bench.prompts)
    metrics, own = router_metrics("", scores, bench), by_name["good"].metrics
    assert own.apgr_routellm.value == metrics.apgr
    assert own.apgr_paper.value == apgr_paper(scores, bench)
    assert (own.cpt20.value, own.cpt50.value, own.cpt80.value) == (metrics.cpt20, metrics.cpt50, metrics.cpt80)
    assert own.saving_cpt50.value == pytest.approx(0.5 / metrics.cpt50)
    assert own.saving_cpt80.value == pytest.approx(0.8 / metrics.cpt80)
    assert own.dollar_saving_cpt50 is None  # nobody knows what these models cost
    assert by_name["oracle"].metrics.apgr_paper.value > own.apgr_paper.value
    assert sum(by_name["good"].histogram.counts) == 400
    for row in found.routers:
        for name in ("apgr_routellm", "apgr_paper", "cpt20", "cpt50", "cpt80", "saving_cpt50", "saving_cpt80"):
            interval = getattr(row.metrics, name)
            assert interval.low <= interval.high
        assert row.curve.strong_share[0] == 0.0
        assert row.curve.strong_share[-1] == 1.0
        assert row.curve.quality[0] == pytest.approx(found.weak_quality)
        assert row.curve.quality[-1] == pytest.approx(found.strong_quality)


def test_random_is_what_is_expected_of_it():
    random = rows(evaluate({}, [made_benchmark(400)], **FEW).benchmarks[0])["random"].metrics
    assert (random.apgr_routellm.value, random.cpt50.value, random.saving_cpt50.value) == (0.5, 0.5, 1.0)
    assert random.apgr_routellm.low < 0.5 < random.apgr_routellm.high


def test_differences_are_paired():
    bench = made_benchmark(400)
    good = knowing_router(bench, 1.0)
    near = TableRouter(bench.prompts, good.win_rates(bench.prompts) + 0.001)
    found = evaluate({"good": good, "near": near, "poor": knowing_router(bench, 0.0)}, [bench], **FEW).benchmarks[0]
    differences = {(entry.router, entry.other): entry.apgr for entry in found.differences}
    assert set(differences) == {
        ("good", "prompt length"), ("near", "good"), ("near", "prompt length"), ("poor", "good"),
        ("poor", "prompt length"),
    }  # fmt: skip
    # The same order of prompts: no difference on any resample, though each APGR is uncertain.
    assert differences["near", "good"].value == pytest.approx(0.0, abs=1e-12)
    assert differences["near", "good"].width < 1e-9
    assert rows(found)["near"].metrics.apgr_routellm.width > 0.05
    assert differences["poor", "good"].high < 0.0
    by_name = rows(found)
    expected = by_name["poor"].metrics.apgr_routellm.value - by_name["good"].metrics.apgr_routellm.value
    assert differences["poor", "good"].value == pytest.approx(expected)


def test_domains():
    bench = made_benchmark(300, domains=("maths", "law", "flat") * 100)
    flat = np.arange(300) % 3 == 2
    bench.strong_quality[flat] = bench.weak_quality[flat]
    router = knowing_router(bench)
    found = evaluate({"r": router}, [bench], **FEW).benchmarks[0]
    by_domain = rows(found)["r"].by_domain
    assert list(by_domain) == ["flat", "law", "maths"]
    assert by_domain["flat"].gap == 0.0
    assert by_domain["flat"].apgr is None
    law = bench.select(np.flatnonzero(np.array(bench.domains) == "law"))
    assert by_domain["law"].prompts == 100
    assert by_domain["law"].gap == pytest.approx(law.strong_quality.mean() - law.weak_quality.mean())
    assert by_domain["law"].apgr.value == router_metrics("", router.win_rates(law.prompts), law).apgr
    assert rows(found)["prompt length"].by_domain
    assert not rows(found)["oracle"].by_domain
    assert not rows(evaluate({}, [made_benchmark()], **FEW).benchmarks[0])["prompt length"].by_domain


def test_costs_by_price_and_by_answer():
    prices = PriceList({"large": 20.0, "small": 1.0}, tokens_per_prompt=500)
    bench = made_benchmark(200)
    router = knowing_router(bench)
    row = rows(evaluate({"r": router}, [bench], prices=prices, **FEW).benchmarks[0])["r"]
    assert row.curve.cost_usd_per_1k[0] == pytest.approx(0.5)
    assert row.curve.cost_usd_per_1k[-1] == pytest.approx(10.0)
    cpt50 = row.metrics.cpt50.value
    assert row.metrics.dollar_saving_cpt50.value == pytest.approx((0.5 * 20 + 0.5) / (cpt50 * 20 + 1 - cpt50))
    # What each answer cost goes before any price.
    measured = made_benchmark(200, strong_cost_usd=np.linspace(0.01, 0.03, 200), weak_cost_usd=np.full(200, 0.001))
    row = rows(evaluate({"r": router}, [measured], prices=prices, **FEW).benchmarks[0])["r"]
    assert row.curve.cost_usd_per_1k[-1] == pytest.approx(20.0)
    share, threshold = row.curve.strong_share[30], row.curve.threshold[30]
    chosen = router.win_rates(bench.prompts) >= threshold
    assert chosen.mean() == pytest.approx(share)
    spent = np.where(chosen, measured.strong_cost_usd, measured.weak_cost_usd).mean() * 1000
    assert row.curve.cost_usd_per_1k[30] == pytest.approx(spent)
    turned = evaluate({"r": router}, [bench], prices=PriceList({"large": 1.0, "small": 20.0}), **FEW).benchmarks[0]
    saving = rows(turned)["r"].metrics.dollar_saving_cpt50
    assert saving.low <= saving.value <= saving.high
    free = evaluate({"r": router}, [bench], prices=PriceList({"large": 0.0, "small": 0.0}), **FEW).benchmarks[0]
    assert rows(free)["r"].metrics.dollar_saving_cpt50 is None


def test_win_rates_are_cached_by_digest_never_by_name(tmp_path):
    bench, other = made_benchmark(50), made_benchmark(50, seed=5)
    router = knowing_router(bench)
    identity = {"r": RouterIdentity("somewhere", "sha256:1")}
    first = evaluate({"r": router}, [bench], cache=tmp_path / "kept", identities=identity, **FEW)
    assert first.routers["r"] == {"directory": "somewhere", "kind": "table", "digest": "sha256:1"}
    asked = router.calls
    again = evaluate({"r": router}, [bench], cache=tmp_path / "kept", identities=identity, **FEW)
    assert (again, router.calls) == (first, asked)
    # Another router of that name, other prompts, or a router nobody can tell from others: scored anew.
    evaluate({"r": router}, [bench], cache=tmp_path / "kept", identities={"r": RouterIdentity("", "sha256:2")}, **FEW)
    assert router.calls == asked + 1
    evaluate({"r": router}, [bench], cache=tmp_path / "kept", **FEW)
    assert router.calls == asked + 2
    assert len(list((tmp_path / "kept").iterdir())) == 2
    evaluate({"r": knowing_router(other)}, [other], cache=tmp_path / "kept", identities=identity, **FEW)
    assert len(list((tmp_path / "kept").iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"junk",
        lambda content: content[:-8],
        lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    ],
)
def test_a_damaged_cache_is_computed_again(tmp_path, damage, caplog):
    bench = made_benchmark(50)
    router, identity = knowing_router(bench), {"r": RouterIdentity("", "sha256:1")}
    first = evaluate({"r": router}, [bench], cache=tmp_path, identities=identity, **FEW)
    for file in tmp_path.iterdir():
        file.write_bytes(damage(file.read_bytes()))
    assert evaluate({"r": router}, [bench], cache=tmp_path, identities=identity, **FEW) == first
    assert "is damaged, and is made again" in caplog.text
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="name another cache folder"):
        evaluate({"r": router}, [bench], cache=tmp_path / "file", identities=identity, **FEW)


def test_notes_say_what_a_reader_must_know():
    bench = made_benchmark(40, overlapping=3, unscored=2)
    constant = TableRouter(bench.prompts, np.full(40, 0.3))
    found = evaluate({"still": constant}, [bench], **FEW).benchmarks[0]
    assert rows(found)["still"].metrics.apgr_routellm.value == pytest.approx(0.5)
    text = "\n".join(found.notes)
    for part in (
        "40 prompts are few",
        "40 resamples are too few",
        "'still' gives every prompt the same",
    ):
        assert part in text
    assert "left out" not in text  # what is left out stands in numbers of its own
    assert found.left_out == (
        "3 left out because the training files given hold them",
        "2 left out because one of the models was not run on them",
    )
    assert not evaluate({}, [made_benchmark(5000)], **{**FEW, "resamples": 100}).benchmarks[0].notes


def test_win_rates_that_differ_in_the_last_bit_have_a_histogram():
    bench = made_benchmark(40)
    close = Given(lambda count: np.where(np.arange(count) % 2, 0.3, np.nextafter(0.3, 1.0)))
    histogram = rows(evaluate({"close": close}, [bench], **FEW).benchmarks[0])["close"].histogram
    assert sum(histogram.counts) == 40
    assert (histogram.edges[0], histogram.edges[-1]) == pytest.approx((-0.2, 0.8))


class Given:
    def __init__(self, win_rates):
        self._win_rates = win_rates

    def win_rates(self, prompts):
        return self._win_rates(len(prompts))


@pytest.mark.parametrize(
    ("win_rates", "message"),
    [
        (lambda count: np.full(count, np.nan), "200 of them not finite"),
        (lambda count: np.zeros(count - 1), r"shape \(199,\) for 200 prompts"),
        (lambda count: np.zeros((count, 1)), r"shape \(200, 1\)"),
    ],
)
def test_bad_win_rates_name_the_router(win_rates, message):
    with pytest.raises(InvalidArgumentError, match=f"router 'odd' gave win rates .*{message}"):
        evaluate({"odd": Given(win_rates)}, [made_benchmark()], **FEW)


def test_no_gap_is_a_named_error():
    equal = Benchmark("even", ("a", "b"), np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1.0, 0, pair=PAIR)
    with pytest.raises(DataError, match=r"even: 'large' scores 0\.5 on average, 'small' 0\.5.* compare other models"):
        evaluate({}, [equal], **FEW)
    swapped = Benchmark("odd", ("a",), np.array([0.0]), np.array([1.0]), 1.0, 0, pair=ModelPair("a", "b"))
    with pytest.raises(DataError, match="swap the two"):
        evaluate({}, [swapped], **FEW)


def test_bad_arguments():
    bench = made_benchmark()
    with pytest.raises(InvalidArgumentError, match="'random' is the name of a baseline"):
        evaluate({"random": knowing_router(bench)}, [bench])
    with pytest.raises(InvalidArgumentError, match="resamples must be positive"):
        evaluate({}, [bench], resamples=0)
    with pytest.raises(InvalidArgumentError, match="random runs must be positive"):
        evaluate({}, [bench], random_runs=-1)
    with pytest.raises(DataError, match="no benchmark"):
        evaluate({}, [])


def test_progress_is_told():
    bench, told = made_benchmark(domains=("a", "b") * 100), []
    evaluate({"r": knowing_router(bench)}, [bench], on_progress=lambda *step: told.append(step), **FEW)
    assert ("r on tiny", 0, 200) in told
    assert ("domains of tiny", 1, 2) in told


def test_everything_again_is_equal():
    bench = made_benchmark()
    first, again = (evaluate({"r": knowing_router(bench)}, [bench], seed=3, **FEW) for _ in range(2))
    assert first == again
    assert isinstance(first, Evaluation)
    assert first.settings["seed"] == 3
