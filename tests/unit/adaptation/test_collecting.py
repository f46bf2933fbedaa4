"""Labels of a traffic in rounds, from models behind a real server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError, load_router
from routellm_fast.adaptation.asking import AskJob
from routellm_fast.adaptation.cases import cases_of
from routellm_fast.adaptation.checking import Checker
from routellm_fast.adaptation.collecting import Collected, Collection, Size
from routellm_fast.adaptation.goal import Goal
from routellm_fast.augmentation import EndpointSettings
from routellm_fast.prices import ModelPrice
from routellm_fast.routers.base import Router
from routellm_fast.thresholds.traffic import Traffic
from tests.support.adapt_traffic import PAIR, Models, is_hard, prompts

pytestmark = pytest.mark.usefixtures("no_server_settings")

GOOD = Checker("good", lambda prompt, answer, reference: float("quality 5" in answer), needs_reference=False)


@cache
def shipped() -> Router:
    return load_router()


@pytest.fixture
def models() -> Iterator[Models]:
    with Models() as server:
        yield server


def collection(texts: list[str], groups: list[str] | None = None, **fields: Any) -> Collection:
    return Collection(cases_of(texts, groups), Traffic.of(texts), shipped(), **fields)


def job(models: Models, folder: Path, **fields: Any) -> AskJob:
    ends = [EndpointSettings(name, base_url=models.url, prices=ModelPrice(10.0, 10.0)) for name in PAIR]
    return AskJob(PAIR, folder / "journal", strong=ends[0], weak=ends[1], checker=GOOD, **fields)


def collected(made: Collection, asks: AskJob, *size: Any) -> Collected:
    return made.collect(asks, Size(*size), Goal())


def test_the_first_prompts_of_the_plan_are_labelled(models: Models, tmp_path: Path) -> None:
    made = collection(prompts(300))
    found = collected(made, job(models, tmp_path), 100)
    assert (found.rounds, found.ending, found.is_interrupted) == (1, "as many labels as were wanted", False)
    assert found.labels.prompts == tuple(case.prompt for case in made.first(100))
    np.testing.assert_array_equal(found.is_untouched, made.plan.is_untouched[:100])
    np.testing.assert_array_equal(found.labels.weak == 0.0, [is_hard(prompt) for prompt in found.labels.prompts])
    assert models.asked_by(*PAIR) == 200


def test_more_labels_are_the_same_and_further_ones(models: Models, tmp_path: Path) -> None:
    made, asks = collection(prompts(300)), job(models, tmp_path)
    few, many = (collected(made, asks, count) for count in (60, 90))
    assert many.labels.prompts[:60] == few.labels.prompts
    assert models.asked_by(*PAIR) == 180


def test_where_prompts_end_that_is_said(models: Models, tmp_path: Path) -> None:
    found = collected(collection(prompts(70)), job(models, tmp_path), 500)
    assert (len(found.labels), found.ending) == (70, "no prompts are left")


def test_rounds_prefer_doubtful_prompts_and_leave_the_untouched_part_a_sample(models: Models, tmp_path: Path) -> None:
    made = collection(prompts(400))
    found = collected(made, job(models, tmp_path), 240, 3)
    assert (found.rounds, len(found.labels)) == (3, 240)
    in_turn = [case.prompt for case in made.first(240)]
    chosen = found.labels.prompts
    assert set(chosen) != set(in_turn)
    order = [made._traffic.prompts[row] for row in made.plan.order.tolist()]
    untouched = [prompt for prompt, is_out in zip(order, made.plan.is_untouched, strict=True) if is_out]
    taken = [prompt for prompt, is_out in zip(chosen, found.is_untouched, strict=True) if is_out]
    # Whatever is doubtful, the untouched part goes on in its own order.
    assert sorted(taken) == sorted(untouched[: len(taken)])
    assert len(taken) == made._division.untouched(240)
    assert models.asked_by(*PAIR) == 480


def test_rounds_give_the_same_labels_again_and_ask_nothing(models: Models, tmp_path: Path) -> None:
    asks = job(models, tmp_path)
    first = collected(collection(prompts(300)), asks, 180, 3)
    second = collected(collection(prompts(300)), asks, 180, 3)
    assert second.labels.prompts == first.labels.prompts
    assert (second.asked.report.new_calls, models.asked_by(*PAIR)) == (0, 360)


def test_rounds_end_when_enough_is_known(models: Models, tmp_path: Path) -> None:
    found = collected(collection(prompts(400)), job(models, tmp_path), 300, 3, 0.3)
    assert (found.rounds, found.ending) == (1, "the interval is as narrow as was wanted")
    found = collected(collection(prompts(400)), job(models, tmp_path), 300, 3, 0.0001)
    assert (found.rounds, found.ending) == (3, "as many labels as were wanted")


def test_rounds_end_when_the_money_is_spent(models: Models, tmp_path: Path) -> None:
    found = collected(collection(prompts(400)), job(models, tmp_path, max_cost_usd=0.2), 300, 3)
    assert found.ending == "the money is spent"
    assert 0 < len(found.labels) < 300


def test_what_is_known_of_an_earlier_run_decides(models: Models, tmp_path: Path) -> None:
    texts = prompts(60)
    found = collected(collection(texts, known=dict.fromkeys(texts, False)), job(models, tmp_path), 60)
    assert not found.is_untouched.any()


def test_prompts_of_a_group_are_on_one_side() -> None:
    texts = prompts(200)
    plan = collection(texts, [str(row // 2) for row in range(200)]).plan
    sides = {texts[row]: bool(is_out) for row, is_out in zip(plan.order.tolist(), plan.is_untouched, strict=True)}
    assert all(sides[first] == sides[second] for first, second in zip(texts[::2], texts[1::2], strict=True))
    assert 0 < sum(sides.values()) < 200


def test_too_few_prompts_are_refused_before_anything_is_asked() -> None:
    for made, count in ((collection(prompts(30)), 400), (collection(prompts(200)), 30)):
        with pytest.raises(DataError, match="labels of 30 prompts in 30 groups are too few: 1[45] groups"):
            made.first(count)
    with pytest.raises(DataError, match="in 1 group are too few"):
        collection(prompts(200), ["one"] * 200).first(100)
    # With labels of an earlier run any number does.
    assert len(collection(prompts(10), known={"another": True}).first(10)) == 10


def test_sizes() -> None:
    assert [Size(10, 3).after(number) for number in (1, 2, 3)] == [4, 7, 10]
    assert Size.of(None, 1, None) == Size(400, 1)
    assert Size.of(50, 2, 0.1) == Size(50, 2, 0.1)
    # (1.96 * 0.5 / 0.05)^2 = 385 untouched labels, which are two fifths.
    assert Size.of(None, 1, 0.05) == Size(963, 1, 0.05)
    for wrong in ((0,), (1, 0), (1, 1, 0.0), (1, 1, 1.0)):
        with pytest.raises(InvalidArgumentError):
            Size(*wrong)
