from __future__ import annotations

import functools
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, load_router
from routellm_fast.adaptation import adapting
from routellm_fast.adaptation.adapting import Adapted, Wanted, adapt
from routellm_fast.adaptation.goal import Goal
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, prove
from routellm_fast.prices import ModelPrice, PairPrices
from routellm_fast.routers.base import Router
from routellm_fast.thresholds.traffic import Traffic
from tests.support.adapt_traffic import PAIR, is_hard, labels_of, prompts

COUNT = 200


@cache
def shipped() -> Router:
    return load_router()


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "prove", functools.partial(prove, resamples=200, random_runs=5, deals=399))


@pytest.fixture
def labels() -> Labels:
    return labels_of(prompts(COUNT))


def made(labels: Labels, sides: np.ndarray | None = None, traffic: Traffic | None = None, **wanted: Any) -> Adapted:
    is_untouched = np.arange(len(labels)) % 5 < 2 if sides is None else sides
    return adapt(
        labels,
        is_untouched,
        traffic or Traffic.of(labels.prompts),
        Wanted(shipped(), **{"recipes": ("ridge",), "created": "2026-12-01", **wanted}),
        dataset="traffic",
    )


def test_the_threshold_reaches_the_goal_and_is_written_down(labels: Labels) -> None:
    adapted = made(labels, goal=Goal("quality", 0.95))
    router, proof = adapted.router, adapted.proof
    assert router.model_pair == PAIR
    assert (proof.prompts, proof.labels) == (80, COUNT)
    point = proof.points[0]
    # Half of the prompts are hard, and the weak model fails on all of these.
    assert point.kept is not None
    assert point.kept.value > 0.85
    assert 0.3 < point.strong_share.value < 0.6
    assert (point.choice.threshold, point.choice.kept_quality) == (adapted.threshold, 0.95)
    assert router.provenance["threshold"] == adapted.threshold
    assert router.provenance["planned_strong_share"] == adapted.plan.strong_share
    assert router.provenance["labels"] == COUNT
    assert router.provenance["recipe"] == "ridge"
    assert router.calibration is not None
    assert not any(prompt in str(router.provenance) or prompt in router.model_card for prompt in labels.prompts)


def test_the_untouched_part_is_not_learned_from(labels: Labels) -> None:
    sides = np.arange(COUNT) % 5 < 2
    lies = np.where(sides, 1.0, labels.weak)
    honest, lied = (made(replace(labels, weak=weak), sides) for weak in (labels.weak, lies))
    texts = prompts(50, first=1000)
    np.testing.assert_array_equal(honest.router.win_rates(texts), lied.router.win_rates(texts))
    assert honest.threshold == lied.threshold
    assert honest.proof.weak_quality != lied.proof.weak_quality


def test_the_threshold_is_found_on_the_traffic(labels: Labels) -> None:
    hard = [prompt for prompt in prompts(2000, first=5000) if is_hard(prompt)]
    goal = Goal("strong_share", 0.5)
    usual, harder = made(labels, goal=goal), made(labels, goal=goal, traffic=Traffic.of(hard))
    assert harder.threshold > usual.threshold
    share = float((harder.router.win_rates(hard) >= harder.threshold).mean())
    assert share == pytest.approx(0.5, abs=0.05)
    assert harder.proof.points[0].choice.kept_quality is None


@pytest.mark.parametrize(("share", "sent"), [(0.0, 0.0), (1.0, 1.0)])
def test_nobody_and_everybody_are_thresholds_too(labels: Labels, share: float, sent: float) -> None:
    adapted = made(labels, goal=Goal("strong_share", share))
    assert adapted.proof.points[0].strong_share.value == sent


def test_money_comes_from_costs_or_else_from_prices(labels: Labels) -> None:
    measured = replace(labels, costs_usd=np.tile([0.01, 0.001], (COUNT, 1)))
    prices = PairPrices(ModelPrice(0.0, 100.0), ModelPrice(0.0, 1.0), output_tokens=100)
    by_costs = made(measured, requests_a_month=1000.0, labelling_usd=3.0, prices=prices)
    assert by_costs.monthly is not None
    assert by_costs.monthly.strong_usd.value == pytest.approx(10.0)
    assert by_costs.monthly.labelling_usd == 3.0
    by_prices = made(labels, prices=prices, goal=Goal("usd_per_1k", 5.0))
    money = by_prices.proof.points[0].money
    assert money is not None
    assert money.strong_usd.value == pytest.approx(0.01)
    assert money.routed_usd.value == pytest.approx(0.005, abs=0.002)
    assert by_prices.monthly is None
    assert made(labels).proof.points[0].money is None


def test_the_router_as_shipped_is_held_beside(labels: Labels) -> None:
    adapted = made(labels)
    assert set(adapted.proof.p_values) >= {ADAPTED, SHIPPED}
    assert adapted.learning.before.name == "as shipped"


def test_too_few_labels_on_a_side_are_refused(labels: Labels) -> None:
    nobody, everybody = np.zeros(COUNT, dtype=np.bool_), np.ones(COUNT, dtype=np.bool_)
    for sides in (nobody, everybody, np.arange(COUNT) >= 19):
        with pytest.raises(DataError, match="labels of 200 prompts in 200 groups are too few"):
            made(labels, sides)
    with pytest.raises(DataError, match="in 1 group are too few: 0 groups could be learned from"):
        made(replace(labels, groups=("one",) * COUNT), everybody)


def test_what_would_fail_later_is_refused_at_once() -> None:
    Wanted(shipped()).check(has_costs=False)
    for wanted in (Wanted(shipped(), Goal("usd_per_1k", 1.0)), Wanted(shipped(), requests_a_month=10.0)):
        wanted.check(has_costs=True)
        with pytest.raises(InvalidArgumentError, match="give --price strong=IN/OUT"):
            wanted.check(has_costs=False)
        prices = PairPrices(ModelPrice(1.0, 1.0), ModelPrice(1.0, 1.0), 100)
        replace(wanted, prices=prices).check(has_costs=False)
    with pytest.raises(InvalidArgumentError, match="no recipe 'magic'"):
        Wanted(shipped(), recipes=("magic",)).check(has_costs=True)
    with pytest.raises(InvalidArgumentError, match="on top of an mf router"):
        Wanted(load_router("sw_ranking")).check(has_costs=True)
