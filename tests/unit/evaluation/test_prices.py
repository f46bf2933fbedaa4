from __future__ import annotations

import math

import pytest

from routellm_fast import DataError, InvalidArgumentError
from routellm_fast.evaluation import Prices, read_prices, saving_ratio


def test_a_thousand_prompts_at_the_prices_of_the_paper():
    prices = Prices()
    assert prices.usd_per_1k("gpt-4-1106-preview") == pytest.approx(24.7 * 359 / 1000)
    assert prices.usd_per_1k("mistralai/Mixtral-8x7B-Instruct-v0.1") == pytest.approx(0.24 * 359 / 1000)
    # RouterBench's name of the same model.
    assert prices.usd_per_1k("mistralai/mixtral-8x7b-chat") == prices.usd_per_1k("mistralai/Mixtral-8x7B-Instruct-v0.1")
    assert prices.usd_per_1k("someone-else") is None


def test_savings_by_hand():
    assert saving_ratio(0.25, random_share=0.5) == 2.0
    assert saving_ratio(0.25, random_share=0.5, strong_cost=10.0, weak_cost=2.0) == pytest.approx(6.0 / 4.0)
    assert saving_ratio(0.0, random_share=0.5) == math.inf


@pytest.mark.parametrize("usd", [-1.0, math.nan, math.inf, True, "cheap", None])
def test_bad_prices(usd):
    with pytest.raises(InvalidArgumentError, match="a price is zero or more US dollars"):
        Prices({"m": usd})


@pytest.mark.parametrize("tokens", [0.0, -1.0, math.nan])
def test_bad_tokens(tokens):
    with pytest.raises(InvalidArgumentError, match="tokens per prompt must be a positive number"):
        Prices(tokens_per_prompt=tokens)


def test_price_files(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"a": 3, "b": 0.5}')
    assert read_prices(path) == {"a": 3, "b": 0.5}
    for content, message in (("[", "not valid JSON"), ("[]", "JSON object"), ('{"a": -1}', r"prices\.json: a price")):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_prices(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_prices(tmp_path / "absent.json")
