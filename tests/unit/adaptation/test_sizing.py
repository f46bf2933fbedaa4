from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.adaptation.sizing import (
    ASSUMED_KEPT,
    ASSUMED_SAVING,
    Division,
    Outlook,
    affordable,
    effective_labels,
    half_width,
    labels_for_half_width,
    labels_to_tell,
    spread_of_interval,
    spread_of_ratio,
)
from routellm_fast.augmentation import Contest, EndpointSettings, Mode, Questioner, Template, estimate
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.interval import Interval
from routellm_fast.prices import ModelPrice
from routellm_fast.tables import read_table

SHARES = st.floats(0.01, 0.99)


@given(SHARES, st.integers(0, 300), st.integers(1, 3000))
def test_a_further_label_goes_to_one_part_and_takes_from_none(share: float, least: int, labels: int) -> None:
    division = Division(share, least)
    before, after = division.untouched(labels - 1), division.untouched(labels)
    assert after - before in (0, 1)
    assert 0 <= after <= labels
    assert division.untouched(np.array([labels - 1, labels])).tolist() == [before, after]


def test_two_fifths_prove_and_at_least_a_hundred_but_no_more_than_half() -> None:
    division = Division()
    expected = {0: 0, 1: 0, 50: 25, 200: 100, 240: 100, 250: 100, 500: 200, 1000: 400, 5: 2}
    assert {labels: division.untouched(labels) for labels in expected} == expected


@given(SHARES, st.integers(0, 300), st.integers(0, 2000))
def test_the_fewest_labels_for_an_untouched_part(share: float, least: int, untouched: int) -> None:
    division = Division(share, least)
    labels = division.labels_for(untouched)
    assert division.untouched(labels) >= untouched
    assert labels == 0 or division.untouched(labels - 1) < untouched


@pytest.mark.parametrize("wrong", [(0.0, 1), (1.0, 1), (0.4, -1), (math.nan, 1)])
def test_a_division_that_is_none_is_refused(wrong: tuple[float, int]) -> None:
    with pytest.raises(InvalidArgumentError, match="untouched"):
        Division(*wrong)


def outcomes(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Quality of the routed and of the strong model's answers: the weak model answers half, and not at random."""
    hard = rng.random(shape)
    strong = (rng.random(shape) < 0.95 - 0.3 * hard).astype(float)
    weak = (rng.random(shape) < 0.95 - 0.7 * hard).astype(float)
    return np.where(hard + 0.3 * rng.normal(size=shape) > 0.5, strong, weak), strong


@pytest.mark.parametrize("labels", [100, 400])
def test_the_interval_holds_the_truth_as_often_as_it_says(labels: int) -> None:
    routed, strong = outcomes(np.random.default_rng(1), (1_000_000,))
    truth = routed.sum() / strong.sum()
    routed, strong = outcomes(np.random.default_rng(2), (2000, labels))
    kept = routed.sum(axis=1) / strong.sum(axis=1)
    widths = np.array([half_width(spread_of_ratio(y, x), labels) for y, x in zip(routed, strong, strict=True)])
    assert np.mean(np.abs(kept - truth) <= widths) == pytest.approx(0.95, abs=0.015)
    # And the half-width that the spread of many labels promises is what the ratio really varies by.
    promised = half_width(spread_of_ratio(*outcomes(np.random.default_rng(3), (100_000,))), labels)
    assert promised == pytest.approx(1.96 * kept.std(), rel=0.06)


def test_the_spread_is_that_of_resamples() -> None:
    routed, strong = outcomes(np.random.default_rng(4), (300,))
    weights = np.random.default_rng(5).integers(1, 6, size=300).astype(float)
    for w in (np.ones(300), weights):
        drawn = np.random.default_rng(6).integers(300, size=(4000, 300))
        draws = (w * routed)[drawn].sum(axis=1) / (w * strong)[drawn].sum(axis=1)
        measured = Interval.of(float((w * routed).sum() / (w * strong).sum()), draws)
        assert spread_of_ratio(routed, strong, w) == pytest.approx(spread_of_interval(measured, 300), rel=0.08)
    assert spread_of_ratio(routed, strong, np.full(300, 7.0)) == pytest.approx(spread_of_ratio(routed, strong))


def test_a_ratio_without_a_whole_has_no_spread() -> None:
    for parts, wholes in ((np.ones(1), np.ones(1)), (np.ones(5), np.zeros(5))):
        with pytest.raises(InvalidArgumentError, match="a spread needs"):
            spread_of_ratio(parts, wholes)


@given(st.floats(0.01, 10.0), st.floats(0.005, 0.5))
def test_labels_for_an_interval_are_the_fewest(spread: float, wanted: float) -> None:
    labels = labels_for_half_width(spread, wanted)
    assert half_width(spread, labels) <= wanted * (1.0 + 1e-9)
    assert labels == 1 or half_width(spread, labels - 1) > wanted * (1.0 - 1e-9)


def test_widths_by_hand() -> None:
    assert half_width(0.5, 100) == pytest.approx(0.098, abs=1e-4)
    assert half_width(0.5, 100, confidence=0.9) == pytest.approx(0.0822, abs=1e-4)
    assert labels_for_half_width(0.5, 0.05) == 385  # as in any table of sample sizes for a share near one half
    assert half_width(0.5, 0) == math.inf
    for wrong in (0.0, -0.1, math.nan):
        with pytest.raises(InvalidArgumentError, match="half-width"):
            labels_for_half_width(0.5, wrong)


def test_labels_to_tell_by_hand_and_by_trial() -> None:
    assert labels_to_tell(0.5, 1.0) == 32  # ((1.95996 + 0.84162) / 0.5)^2 = 31.4
    assert labels_to_tell(-0.5, 1.0) == 32
    assert labels_to_tell(0.5, 1.0, 30) == 2
    assert labels_to_tell(0.5, 1.0, 33) == 0
    assert labels_to_tell(0.0, 1.0) is None
    assert labels_to_tell(0.1, 0.5, power=0.95) > labels_to_tell(0.1, 0.5)  # type: ignore[operator]
    effect, spread = 0.08, 0.6
    labels = labels_to_tell(effect, spread)
    assert labels is not None
    drawn = np.random.default_rng(7).normal(effect, spread, size=(4000, labels))
    clear = np.abs(drawn.mean(axis=1)) > half_width(spread, labels)
    assert clear.mean() == pytest.approx(0.8, abs=0.02)


def test_labels_that_count_unequally_are_worth_fewer() -> None:
    assert effective_labels(np.full(50, 3.0)) == pytest.approx(50.0)
    assert effective_labels(np.array([1000.0, 1.0, 1.0])) == pytest.approx(1.0, abs=0.01)
    assert effective_labels(np.array([])) == 0.0


def test_an_outlook_fits_its_labels() -> None:
    outlook = Outlook.of(500, Division())
    assert (outlook.untouched, outlook.training) == (200, 300)
    assert outlook.kept == half_width(ASSUMED_KEPT, 200)
    assert outlook.saving == half_width(ASSUMED_SAVING, 200)
    for made, part in ((Outlook.for_kept(0.04, Division()), "kept"), (Outlook.for_saving(0.3, Division()), "saving")):
        assert getattr(made, part) <= (0.04 if part == "kept" else 0.3)
        assert getattr(Outlook.of(made.labels - 1, Division()), part) > (0.04 if part == "kept" else 0.3)
    # What was measured takes the place of what was assumed.
    assert Outlook.for_kept(0.04, Division(), kept=0.2).labels < Outlook.for_kept(0.04, Division()).labels


def asked(prices: ModelPrice | None = None) -> dict[str, object]:
    judge = EndpointSettings("judge", prices=ModelPrice(1.0, 10.0), max_tokens=50)
    answering = {name: EndpointSettings(name, prices=prices, max_tokens=100) for name in ("strong", "weak")}
    return {"questioner": Questioner(judge, Template.shipped(Mode.PAIRWISE)), "generators": answering}


CONTESTS = [Contest(f"prompt {i} " + "word " * i, f"g{i}", "own", "strong", "weak", None, None) for i in range(40)]


def test_so_many_labels_as_the_money_is_for() -> None:
    settings = asked(ModelPrice(5.0, 15.0))
    cost_usd = [estimate(CONTESTS[:n], **settings).cost_usd for n in range(41)]  # type: ignore[arg-type]
    assert all(one is not None and other is not None and one < other for one, other in itertools.pairwise(cost_usd))
    for labels in (0, 1, 17, 40):
        for more in (0.0, 1e-9):
            assert affordable(CONTESTS, cost_usd[labels] + more, **settings) == labels  # type: ignore[operator,arg-type]
    assert affordable(CONTESTS, 1e6, **settings) == 40  # type: ignore[arg-type]
    assert affordable([], 1.0, **settings) == 0  # type: ignore[arg-type]


def test_labels_without_a_price_are_not_counted() -> None:
    with pytest.raises(InvalidArgumentError, match="price of each model"):
        affordable(CONTESTS, 1.0, **asked())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("traffic", "strong", "weak"),
    [
        ("mirage_medical", "gpt-4-32k", "gpt-3.5-turbo-16k"),
        ("kor_bench", "gpt-4o", "Mistral-7B-Instruct-v0.3"),
        ("zeroeval_crux", "gpt-4-turbo-2024-04-09", "Mixtral-8x7B-Instruct-v0.1"),
        ("farel_bench", "gpt-4-turbo", "mixtral-8x7b-instruct-v0.1.Q8_0"),
        ("routerdc_code", "dolphin-2.9-llama3-8b", "zephyr-7b-beta"),
    ],
)
def test_what_is_assumed_is_of_the_size_of_what_is_measured(
    traffic: str, strong: str, weak: str, shared_data: Path
) -> None:
    rows = list(read_table(shared_data / "traffic" / f"{traffic}.csv.gz"))
    judged = [row for row in rows if not row.is_empty(strong) and not row.is_empty(weak)]
    s, w = (np.array([row.number(model) for row in judged]) for model in (strong, weak))
    # As a router that knows nothing, which has the widest interval: half of the requests to each model.
    is_strong = np.random.default_rng(0).random(len(judged)) < 0.5
    assert 0.5 * ASSUMED_KEPT < spread_of_ratio(np.where(is_strong, s, w), s) < 1.6 * ASSUMED_KEPT
