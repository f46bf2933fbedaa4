from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from routellm_fast.evaluation.results import LENGTH, BenchmarkResult, CurvePoints, Difference
from routellm_fast.evaluation.verdict import Setting, settings_of, verdict_on
from routellm_fast.interval import Interval
from tests.support.report_samples import benchmark


def sample(apgr: Interval, over_length: Interval | None, **changes: object) -> BenchmarkResult:
    """A benchmark of one router."""
    result = benchmark("exam", ["mine"], prompts=2000, domains=0)
    first = result.routers[0]
    first = dataclasses.replace(first, metrics=dataclasses.replace(first.metrics, apgr_routellm=apgr))
    differences = () if over_length is None else (Difference("mine", LENGTH, over_length),)
    routers = (first, *result.routers[1:])
    return dataclasses.replace(result, routers=routers, differences=differences, **changes)


GOOD = Interval(0.62, 0.6, 0.64)


@pytest.mark.parametrize(
    ("apgr", "over_length", "headline", "is_advised"),
    [
        (GOOD, Interval(0.05, 0.02, 0.08), "better than random routing, and better than sending the longest", True),
        (GOOD, Interval(0.01, -0.02, 0.04), "better than random routing; no clear difference from sending", True),
        (GOOD, Interval(-0.05, -0.08, -0.02), "better than random routing, but worse than sending", True),
        (GOOD, None, "better than random routing.", True),
        (Interval(0.51, 0.48, 0.54), Interval(0.05, 0.02, 0.08), "no clear difference from random routing", False),
        (Interval(0.4, 0.38, 0.42), Interval(0.05, 0.02, 0.08), "worse than random routing. Do not use it", False),
    ],
)
def test_the_headline_says_whether_to_use_it(apgr, over_length, headline, is_advised):
    verdict = verdict_on(sample(apgr, over_length))
    assert verdict.headline.startswith("mine on exam: ")
    assert headline in verdict.headline
    labels = [label for label, _ in verdict.points]
    assert labels == (["What to set", "What it saves", "How sure"] if is_advised else ["How sure"])
    assert verdict.settings


def test_the_numbers_are_those_of_the_curve():
    result = sample(GOOD, Interval(0.05, 0.02, 0.08))
    verdict = verdict_on(result)
    points = dict(verdict.points)
    gap = {setting.goal: setting for setting in verdict.settings}["80 % of the gap"]
    curve = result.routers[0].curve
    at = curve.strong_share.index(gap.strong_share)
    assert (curve.threshold[at], curve.quality[at]) == (gap.threshold, gap.quality)
    assert gap.pgr >= 0.8
    before = (curve.quality[at - 1] - result.weak_quality) / (result.strong_quality - result.weak_quality)
    assert before < 0.8
    assert f"threshold {gap.threshold_text} recovers 80 % of the gap" in points["What to set"]
    assert f"It costs {gap.cost_usd_per_1k:.2f} USD per 1,000 prompts" in points["What it saves"]
    saving = result.routers[0].metrics.saving_cpt80
    assert points["What it saves"].startswith(f"{saving.value:.2f} times [{saving.low:.2f}, {saving.high:.2f}] fewer")
    assert "APGR 0.620 [0.600, 0.640]" in points["How sure"]
    assert "mine less prompt length: +0.050 [+0.020, +0.080]" in points["How sure"]


def test_without_prices_nothing_is_said_of_money():
    result = sample(GOOD, None)
    first = result.routers[0]
    metrics = dataclasses.replace(first.metrics, dollar_saving_cpt50=None, dollar_saving_cpt80=None)
    curve = dataclasses.replace(first.curve, cost_usd_per_1k=None)
    result = dataclasses.replace(result, routers=(dataclasses.replace(first, metrics=metrics, curve=curve),))
    text = dict(verdict_on(result).points)["What it saves"]
    assert "USD" not in text
    assert "money" not in text


def test_of_several_routers_the_best_is_named_and_those_that_may_be_as_good():
    result = benchmark("exam", ["a", "b", "c"], prompts=2000, domains=0)
    routers = list(result.routers)
    for index, value in enumerate((0.6, 0.65, 0.64)):
        metrics = dataclasses.replace(routers[index].metrics, apgr_routellm=Interval(value, value - 0.02, value + 0.02))
        routers[index] = dataclasses.replace(routers[index], metrics=metrics)
    differences = (
        Difference("b", "a", Interval(0.05, 0.03, 0.07)),
        Difference("c", "a", Interval(0.04, -0.01, 0.09)),
        Difference("b", LENGTH, Interval(0.05, 0.03, 0.07)),
    )
    verdict = verdict_on(dataclasses.replace(result, routers=tuple(routers), differences=differences))
    assert verdict.router == "b"
    assert verdict.points[0] == ("Other routers", "b has the highest APGR of 3.")
    unsure = (Difference("b", "a", Interval(0.05, -0.01, 0.11)), *differences[1:])
    verdict = verdict_on(dataclasses.replace(result, routers=tuple(routers), differences=unsure))
    assert verdict.points[0][1].endswith("; no clear difference from a.")


def test_baselines_alone_have_no_verdict():
    result = benchmark("exam", [], prompts=200, domains=0)
    assert verdict_on(result) is None


def test_a_router_with_few_win_rates_has_the_thresholds_that_it_can_have():
    result = benchmark("exam", ["mine"], prompts=200, domains=0)
    weak, strong = result.weak_quality, result.strong_quality
    curve = CurvePoints((0.0, 1.0), (weak, strong), (0.6 + 1e-9, 0.6))
    router = dataclasses.replace(result.routers[0], curve=curve)
    found = settings_of(router, result)
    # A share of 10 % is nearer to none, which is the weak model alone and needs no router.
    assert [(setting.goal, setting.strong_share) for setting in found] == [
        ("50 % of the gap", 1.0),
        ("80 % of the gap", 1.0),
        ("95 % of the gap", 1.0),
        ("75 % strong share", 1.0),
    ]


@pytest.mark.parametrize("threshold", [0.5, 0.6123456789, float(np.float32(0.57)), 1.0, 0.0])
def test_a_threshold_is_shown_so_that_its_prompts_reach_it(threshold: float):
    text = Setting("", threshold, 0.5, 0.5, 0.5, None).threshold_text
    assert float(text) <= threshold < float(text) + 1.1e-6
