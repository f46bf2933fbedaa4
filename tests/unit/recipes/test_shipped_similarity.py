from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recipes import shipped_similarity
from recipes.benchmark_table import record
from routellm_fast import ModelPair
from routellm_fast.evaluation.results import (
    LENGTH,
    BenchmarkResult,
    CurvePoints,
    Difference,
    Evaluation,
    MetricSet,
    Role,
    RouterResult,
)
from routellm_fast.interval import Interval

PAIR = ModelPair("s", "w")
METRICS = {
    "battles": 1200,
    "models": 3,
    "prompts": 400,
    "ties": 66,
    "pair_battles": 400,
    "config": {"num_tiers": 3},
    "held_out": {"pair_battles": 119, "loss": 0.6021, "constant_loss": 0.6512},
}


def test_the_shipped_recipe_takes_licensed_battles_and_the_pair_s_golden_labels(shared_data: Path) -> None:
    rows = shipped_similarity.read_rows(shared_data / "train")
    own = [row for row in rows if {row.model_a, row.model_b} == set(shipped_similarity.PAPER_PAIR)]
    assert all(len(row.prompt.strip()) >= 16 for row in rows)
    assert any(row.target == 0.5 for row in own)
    assert not {row.prompt for row in own if row.source.startswith("battles")} & {
        row.prompt for row in own if not row.source.startswith("battles")
    }
    counts = Counter(name for row in rows for name in (row.model_a, row.model_b))
    assert min(counts.values()) >= 20
    assert not {"battles_human/arena_200", "battles_human/arena_2025_100"} & {row.source for row in rows}


def benchmark_result(name: str, own: float, mf: float) -> BenchmarkResult:
    at = Interval.exactly
    points = CurvePoints((0.0, 1.0), (0.0, 1.0), (1.0, 0.0))

    def row(router: str, apgr: float, role: Role = "router") -> RouterResult:
        return RouterResult(router, role, MetricSet(at(apgr), at(apgr), *map(at, (0.1, 0.4, 0.8, 1.25, 1.0))), points)

    differences = (
        Difference("mf", "this router", Interval(mf - own, mf - own - 0.02, mf - own + 0.02)),
        Difference("this router", LENGTH, Interval(own - 0.5, own - 0.55, own - 0.45)),
    )
    rows = (row("this router", own), row("mf", mf), row(LENGTH, 0.5, "baseline"))
    return BenchmarkResult(name, 9, 0, *PAIR, 0.9, 0.5, 1.0, rows, differences)


def test_the_model_card_says_where_the_router_is_ahead_and_where_behind() -> None:
    results = Evaluation(
        "2026-11-25", {}, (benchmark_result("mmlu", 0.512, 0.573), benchmark_result("gsm8k", 0.53, 0.52)), {}
    )
    tiers = dict.fromkeys(shipped_similarity.PAPER_PAIR, 3)
    rates = np.linspace(0.4, 0.6, 101, dtype=np.float32)
    card = shipped_similarity.model_card(results, rates, METRICS, tiers, created="2026-11-25")
    assert "| MMLU | this router | 0.512 |" in card
    assert (
        "Held against mf, this router is behind by 0.061 (-0.081 to -0.041) on MMLU; "
        "ahead by 0.010 (-0.010 to +0.030, not clearly) on GSM8K."
    ) in card
    assert "Held against prompt length, this router is ahead by 0.012 (-0.038 to +0.062, not clearly) on MMLU" in card
    assert record(results)["gsm8k"]["mf"]["apgr"] == 0.52
    assert f"log loss is {METRICS['held_out']['loss']:.4f} nats" in card.replace("\n", " ")
    assert "1,200 battles of 3 models" in card
    for word in ("2026-11-25", "Apache-2.0", "MIT", "CC-BY-4.0", "recipes.shipped_similarity", "0.4100 to 0.5900"):
        assert word in card


def test_the_script_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shipped_similarity.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "prompts.csv.gz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
