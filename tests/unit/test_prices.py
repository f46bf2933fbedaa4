from __future__ import annotations

import math

import numpy as np
import pytest

from routellm_fast import DataError, InvalidArgumentError
from routellm_fast.data import known_aliases
from routellm_fast.evaluation import saving_ratio
from routellm_fast.prices import PAPER_TOKENS, ModelPrice, PairPrices, PriceList, Tokens, assigned_usd, read_price_list


def test_a_thousand_prompts_at_the_prices_of_the_paper():
    prices = PriceList()
    assert prices.usd_per_1k("gpt-4-1106-preview") == pytest.approx(24.7 * 359 / 1000)
    assert prices.usd_per_1k("mistralai/Mixtral-8x7B-Instruct-v0.1") == pytest.approx(0.24 * 359 / 1000)
    # RouterBench's name of the same model.
    by_alias = prices.usd_per_1k("mistralai/mixtral-8x7b-chat", known_aliases())
    assert by_alias == prices.usd_per_1k("mistralai/Mixtral-8x7B-Instruct-v0.1")
    assert prices.usd_per_1k("mistralai/mixtral-8x7b-chat") is None
    assert prices.usd_per_1k("someone-else") is None


def test_savings_by_hand():
    assert saving_ratio(0.25, random_share=0.5) == 2.0
    assert saving_ratio(0.25, random_share=0.5, strong_cost=10.0, weak_cost=2.0) == pytest.approx(6.0 / 4.0)
    assert saving_ratio(0.0, random_share=0.5) == math.inf


@pytest.mark.parametrize("usd", [-1.0, math.nan, math.inf, True, "cheap", None])
def test_bad_prices(usd):
    with pytest.raises(InvalidArgumentError, match="a price is zero or more US dollars"):
        PriceList({"m": usd})


@pytest.mark.parametrize("tokens", [0.0, -1.0, math.nan])
def test_bad_tokens(tokens):
    with pytest.raises(InvalidArgumentError, match="tokens per prompt must be a positive number"):
        PriceList(tokens_per_prompt=tokens)


def test_price_files(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"a": 3, "b": 0.5}')
    assert read_price_list(path) == {"a": 3, "b": 0.5}
    for content, message in (("[", "not valid JSON"), ("[]", "JSON object"), ('{"a": -1}', r"prices\.json: a price")):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_price_list(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_price_list(tmp_path / "absent.json")


def test_costs_by_hand() -> None:
    prices = PairPrices(ModelPrice(10, 30), ModelPrice(0.5, 1.5, 0.001), output_tokens=200)
    strong, weak = prices.costs_usd(np.array([100, 0]))
    np.testing.assert_allclose(strong, [0.001 + 0.006, 0.006])
    np.testing.assert_allclose(weak, [0.00005 + 0.0003 + 0.001, 0.0013])
    assert prices.counts_prompts
    assert not PairPrices(ModelPrice(10), ModelPrice(), input_tokens=50).counts_prompts
    strong, _ = PairPrices(ModelPrice(10), ModelPrice(), input_tokens=50).costs_usd(np.array([1, 1000]))
    np.testing.assert_allclose(strong, [0.0005, 0.0005])


def test_prices_without_meaning_are_refused() -> None:
    for value in (-1.0, float("nan"), float("inf"), True, "1"):
        with pytest.raises(InvalidArgumentError, match="input_usd_per_1m"):
            ModelPrice(value)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="mean number of output tokens"):
        PairPrices(ModelPrice(10, 30), ModelPrice())
    with pytest.raises(InvalidArgumentError, match="output_tokens"):
        PairPrices(ModelPrice(), ModelPrice(), output_tokens=-1)


def test_a_thousand_requests_by_hand() -> None:
    assert ModelPrice(10, 30, 0.5).usd_per_1k(Tokens(1000, 200)) == pytest.approx(500.0 + 10.0 + 6.0)
    # One average price a token is the price of both kinds of token.
    paper = PriceList({"m": 24.7}).usd_per_1k("m")
    assert paper == pytest.approx(ModelPrice(24.7, 24.7).usd_per_1k(PAPER_TOKENS))
    assert ModelPrice(10, 30, 0.5).cost_usd(1000, 200) == pytest.approx(0.5 + 0.01 + 0.006)


@pytest.mark.parametrize(
    ("text", "count", "found"),
    [
        ("llama3:8b=0.5", 1, ("llama3:8b", (0.5,))),
        ("a=b=1e1", 1, ("a=b", (10.0,))),
        ("strong=10/30", 2, ("strong", (10.0, 30.0))),
        ("=1", 1, ("", (1.0,))),
        ("strong=10", 2, None),
        ("strong=10/30", 1, None),
        ("strong=cheap", 1, None),
        ("strong=", 1, None),
        ("10", 1, None),
    ],
)
def test_prices_of_a_command_line(text: str, count: int, found: object) -> None:
    assert assigned_usd(text, count) == found
