from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from routellm_fast import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.metrics import router_metrics
from routellm_fast.evaluation.transfer import eligible_pairs, transfer_markdown, transfer_summary, transfer_table
from tests.support.pool_builders import labelled

NAMES = ("strong", "weak", "rare")
PAIR = ModelPair("strong", "weak")


class ByNumber:
    """The win rate is written in the prompt."""

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.array([float(prompt.split()[0]) for prompt in prompts], dtype=np.float32)


def rows(count: int = 300, seed: int = 0) -> list:
    """The strong model is right where the number is high, the weak one everywhere else; the rare one ran on few."""
    numbers = np.random.default_rng(seed).permutation(count) / count
    return [
        labelled(f"{number:.4f}" + " word" * (i % 7), (1.0, float(number < 0.4), 1.0 if i < 50 else math.nan), NAMES)
        for i, number in enumerate(numbers)
    ]


def test_pairs_need_a_gap_and_prompts_and_put_the_strong_model_first():
    assert eligible_pairs(rows()) == [PAIR]
    assert eligible_pairs(rows(), min_prompts=50) == [ModelPair("rare", "weak"), PAIR]
    assert eligible_pairs(rows(), min_gap=0.61) == []
    turned = [labelled(row.prompt, (row.scores["weak"], row.scores["strong"]), ("a", "b")) for row in rows()]
    assert eligible_pairs(turned) == [ModelPair("b", "a")]
    assert eligible_pairs([]) == []


def test_the_numbers_are_those_of_the_metrics():
    data = rows()
    (row,) = transfer_table(ByNumber(), data, [PAIR], table="hand", resamples=100)
    strong, weak = (np.array([entry.scores[name] for entry in data]) for name in PAIR)
    benchmark = Benchmark("hand", tuple(entry.prompt for entry in data), strong, weak, 1.0, 0)
    own = router_metrics("", ByNumber().win_rates(benchmark.prompts), benchmark)
    assert (row.table, row.strong_model, row.weak_model) == ("hand", "strong", "weak")
    assert (row.prompts, row.dropped) == (300, 0)
    assert (row.strong_quality, row.weak_quality) == (1.0, pytest.approx(0.4))
    assert (row.apgr.value, row.cpt50.value, row.cpt80.value) == (own.apgr, own.cpt50, own.cpt80)
    # All of the gap lies in the upper 60 % of the order: PGR rises to 1 at c = 0.6.
    assert row.apgr.value == pytest.approx(0.7, abs=0.005)
    assert row.apgr_paper.value == pytest.approx(0.7, abs=0.01)
    assert row.cpt50.value == pytest.approx(0.3, abs=0.005)
    assert row.apgr.low < row.apgr.value < row.apgr.high
    assert abs(row.random_apgr.value - 0.5) < 0.01
    assert row.random_apgr.high < row.apgr.low
    assert row.over_length.value == pytest.approx(row.apgr.value - row.length_apgr.value)
    assert row.over_length.low > 0
    assert transfer_table(ByNumber(), data, [PAIR], table="hand", resamples=100) == (row,)
    assert json.loads(json.dumps(row.to_json(), allow_nan=False))["prompts"] == 300


def test_only_prompts_of_both_models_count_and_ineligible_pairs_are_left_out():
    asked = [ModelPair("rare", "weak"), PAIR, ModelPair("weak", "strong")]
    assert [row.strong_model for row in transfer_table(ByNumber(), rows(), asked, resamples=5)] == ["strong"]
    rare, _ = transfer_table(ByNumber(), rows(), asked, min_prompts=20, resamples=5)
    assert (rare.strong_model, rare.prompts, rare.dropped) == ("rare", 50, 250)


def test_the_summary_is_over_all_eligible_pairs():
    found = transfer_summary(ByNumber(), rows(), table="hand")
    (row,) = transfer_table(ByNumber(), rows(), [PAIR], resamples=5)
    assert (found.pairs, found.above_chance, found.above_length) == (1, 1.0, 1.0)
    assert (found.mean_apgr, found.mean_length_apgr) == (row.apgr.value, row.length_apgr.value)
    assert transfer_summary(ByNumber(), rows(), [PAIR, ModelPair("rare", "weak")]).pairs == 2
    assert found.to_json()["table"] == "hand"


def test_the_table_is_markdown():
    text = transfer_markdown(transfer_table(ByNumber(), rows(), [PAIR], table="hand", resamples=5))
    assert text.count("\n") == 2
    assert "| strong / weak | hand | 300 | 1.000 / 0.400 | 0.70" in text
    assert text.endswith("| better |")


def test_pairs_that_cannot_be_evaluated():
    with pytest.raises(DataError, match="no row has a score of x; there are rare, strong, weak"):
        transfer_table(ByNumber(), rows(), [ModelPair("strong", "x")])
    with pytest.raises(DataError, match="no rows"):
        transfer_table(ByNumber(), [], [PAIR])
    with pytest.raises(DataError, match="hand has no pair"):
        transfer_summary(ByNumber(), rows(100), table="hand")
    with pytest.raises(InvalidArgumentError, match="min_gap must be above 0"):
        eligible_pairs(rows(), min_gap=0.0)
    apart = [labelled("0.1", (1, math.nan, 1), NAMES), labelled("0.2", (math.nan, 1, 1), NAMES)]
    with pytest.raises(DataError, match="no row has scores of both 'strong' and 'weak'"):
        transfer_summary(ByNumber(), apart, [PAIR])
