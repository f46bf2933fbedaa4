from __future__ import annotations

import json

import numpy as np
import pytest

from routellm_fast import DataError, ModelPair
from routellm_fast.data import Battle, Battles, to_arrays
from routellm_fast.training.verdict import Verdict, check_tells_apart, compared, judged

PAIR = ModelPair("s", "w")


def battles(count: int = 300, *, seed: int = 0) -> Battles:
    """The strong model wins more often the higher the number at the end of a prompt, whose length says nothing."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        need = i / count
        words = "word " * int(random.integers(1, 30))
        rows.append(Battle(f"{words}{i:05d}", f"g{i}", *PAIR, float(random.random() < 0.2 + 0.6 * need), "x"))
    return to_arrays(rows)


def needs(arrays: Battles) -> np.ndarray:
    return np.array([int(prompt[-5:]) for prompt in arrays.prompts]) / len(arrays.prompts)


def judge(arrays: Battles, scores: np.ndarray, **options: object) -> Verdict:
    of_pair, share = arrays.of_pair(PAIR)
    return judged(arrays, share, of_pair, scores, **options)  # type: ignore[arg-type]


def test_an_order_that_knows_is_better_and_its_reverse_worse() -> None:
    arrays = battles()
    good, bad = judge(arrays, needs(arrays)), judge(arrays, 1.0 - needs(arrays))
    assert (good.against_constant, good.against_length) == ("better", "better")
    assert (bad.against_constant, bad.against_length) == ("worse", "worse")
    assert good.gain.value == pytest.approx(-bad.gain.value, abs=1e-6)
    assert good.line.startswith("verdict: better than a constant, better than prompt length. Over all ")
    assert good.line.count("\n") == 0
    assert json.loads(json.dumps(good.to_json()))["line"] == good.line


def test_a_constant_and_noise_are_no_different_from_a_constant() -> None:
    arrays = battles()
    flat = judge(arrays, np.full(len(arrays.prompts), 0.5))
    assert flat.gain.to_list() == [0.0, 0.0, 0.0]
    assert flat.against_constant == "no difference"
    noise = judge(arrays, np.random.default_rng(5).random(len(arrays.prompts)))
    assert noise.against_constant == "no difference"
    assert noise.gain.low < 0.0 < noise.gain.high


def test_length_is_held_against_as_a_router_of_its_own() -> None:
    rows = [Battle(f"{'word ' * (1 + i % 20)}{i}", f"g{i}", *PAIR, float(i % 20 > 9), "x") for i in range(200)]
    arrays = to_arrays(rows)
    words = np.array([len(prompt.split()) for prompt in arrays.prompts], dtype=float)
    found = judge(arrays, words)
    assert found.against_constant == "better"
    assert found.against_length == "no difference"
    assert found.lead.to_list() == [0.0, 0.0, 0.0]
    assert found.gain == found.length_gain
    ignorant = judge(arrays, np.random.default_rng(0).random(len(words)))
    assert ignorant.against_length == "worse"


def test_the_gain_is_what_routing_collects_beyond_random_routing() -> None:
    """By definition: at every strong share, the battles that the chosen model wins, less those at random."""
    arrays = battles(60)
    scores = needs(arrays)
    of_pair, share = arrays.of_pair(PAIR)
    won = share[np.argsort(-scores[arrays.prompt])]
    total, everywhere = len(won), np.mean(2 * won - 1)
    collected = np.concatenate([[0.0], np.cumsum(2 * won - 1)]) / total
    shares = np.arange(total + 1) / total
    beyond = collected - shares * everywhere
    expected = np.sum((beyond[1:] + beyond[:-1]) / 2.0) / total  # the area, by trapezoids
    assert judge(arrays, scores).gain.value == pytest.approx(expected, abs=1e-6)
    gain, other, lead = compared(arrays, share, of_pair, scores, 1.0 - scores)
    assert (gain.value, other.value) == pytest.approx((expected, -expected), abs=1e-6)
    assert lead.value == pytest.approx(2 * expected, abs=1e-6)


def test_losses_are_those_of_the_win_rates_and_of_the_share_trained_on() -> None:
    arrays = battles(100)
    of_pair, share = arrays.of_pair(PAIR)
    out = np.arange(100) % 2 == 0
    rates = 0.2 + 0.6 * needs(arrays)
    found = judged(arrays, share, of_pair & out, rates, seen=of_pair & ~out)
    won, rate = share[out], rates[arrays.prompt[out]]
    assert found.loss == pytest.approx(-np.mean(won * np.log(rate) + (1 - won) * np.log(1 - rate)), abs=1e-6)
    mean = share[~out].mean()
    assert found.constant_loss == pytest.approx(-np.mean(won * np.log(mean) + (1 - won) * np.log(1 - mean)), abs=1e-6)
    assert found.battles == out.sum()


def test_few_prompt_groups_or_one_outcome_tell_nothing() -> None:
    few = battles(12)
    assert judge(few, needs(few)).against_constant == "too few to tell"
    repeated = to_arrays([Battle(f"p{i} {'a ' * (i % 9)}", f"g{i % 12}", *PAIR, float(i % 2), "x") for i in range(400)])
    assert judge(repeated, np.arange(400) / 400).against_length == "too few to tell"
    alike = to_arrays([Battle(f"p{i}", f"g{i}", *PAIR, 1.0, "x") for i in range(100)])
    found = judge(alike, np.arange(100) / 100)
    assert found.line.startswith("verdict: too few to tell. 100 held-out battles")
    nothing = judged(few, few.of_pair(PAIR)[1], np.zeros(12, dtype=bool), needs(few))
    assert (nothing.battles, nothing.against_constant) == (0, "too few to tell")


def test_battles_of_one_prompt_group_count_as_one_in_the_interval() -> None:
    single = battles(100)
    columns = zip(single.prompts, single.groups, single.target.tolist(), strict=True)
    repeated = to_arrays([Battle(prompt, group, *PAIR, target, "x") for prompt, group, target in columns] * 25)
    once, often = (judge(arrays, needs(arrays)).gain.width for arrays in (single, repeated))
    assert often == pytest.approx(once, rel=0.2)


def test_a_router_that_cannot_tell_prompts_apart_is_refused() -> None:
    with pytest.raises(DataError, match=r"the win rate is 0\.5 for all 30 prompts.*not written"):
        check_tells_apart(np.full(30, 0.5, dtype=np.float32))
    check_tells_apart(np.array([0.5], dtype=np.float32))
    check_tells_apart(np.array([0.5, 0.5001], dtype=np.float32))
