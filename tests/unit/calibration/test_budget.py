from __future__ import annotations

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.calibration import ModelPrice, PairPrices
from routellm_fast.calibration.budget import token_counts
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.thresholds import Traffic
from tests.support.builders import model2vec_folder, static_embedder


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


def test_tokens_are_counted_whole(tmp_path) -> None:
    embedder = rf.StaticEmbedder.load(model2vec_folder(tmp_path / "model", max_length=4))
    prompts = ["hello", "prove the a b c ?", "hello " * 700, "", "\ud800 hello"]
    counts = token_counts(embedder, prompts)
    assert counts.tolist()[:4] == [1, 6, 700, 0]
    assert counts[4] >= 1
    with pytest.raises(InvalidArgumentError, match="mean number of input tokens"):
        token_counts(None, ["hello"])


def test_the_library_counts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from routellm_fast import tokenization

    prompts = ["hello", "prove the a b c ?", "hello " * 700, "", "\ud800 hello"]
    native = token_counts(static_embedder(), prompts)
    monkeypatch.setattr(tokenization, "native_tokenizer", lambda spec: None)
    np.testing.assert_array_equal(token_counts(static_embedder(), prompts), native)


def test_traffic_counts_what_was_asked() -> None:
    traffic = Traffic.of(["b", "a", "", "b", " \n", "b"])
    assert traffic.prompts == ("b", "a")
    assert traffic.counts.tolist() == [3, 1]
    assert (traffic.blank, traffic.request_count) == (2, 4)
    assert traffic.per_request(np.array([0.5, 0.25], np.float32)).tolist() == [0.5, 0.5, 0.5, 0.25]
    assert traffic.digest == Traffic.of(iter(["b", "a", "b", "b"])).digest
    assert traffic.digest != Traffic.of(["a", "b", "b", "b"]).digest
    assert Traffic.of(["\ud800"]).request_count == 1


def test_a_log_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="no prompt"):
        Traffic.of([])
    with pytest.raises(DataError, match="only 2 blank"):
        Traffic.of(["", " "])
