from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality_selection import Rows, expected_apgr, groups_of, labels, markdown, mixed_apgr, plainest
from recipes.shipped import CONFIG, NORMALIZE
from routellm_fast.evaluation import Benchmark
from routellm_fast.evaluation.metrics import router_metrics

RESULTS = Path(__file__).parent / "results"


def test_the_router_that_ships_has_the_settings_that_were_taken() -> None:
    taken = json.loads((RESULTS / "selection.json").read_text())["taken"]
    assert (taken["ridge"], taken["length_weight"], taken["normalize"]) == (
        CONFIG.ridge,
        CONFIG.length_weight,
        NORMALIZE,
    )
    assert (taken["difficulty_share"], taken["votes"]) == (0.0, False)


def test_the_page_is_that_of_the_numbers() -> None:
    found = json.loads((RESULTS / "selection.json").read_text())
    assert (RESULTS / "selection.md").read_text() == markdown(found)


def test_expected_apgr_is_close_to_what_routing_gives() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=4000)
    gap = 0.2 + 0.1 * scores + random.normal(size=4000)
    benchmark = Benchmark("own", tuple(map(str, range(4000))), gap, np.zeros(4000), 1.0, 0)
    assert expected_apgr(scores, gap) == pytest.approx(router_metrics("r", scores, benchmark).apgr, abs=0.02)
    half = np.split(np.arange(4000), 2)
    assert mixed_apgr(scores, gap, half) == pytest.approx(expected_apgr(scores, gap), abs=2e-3)


def test_tasks_of_one_kind_leave_together() -> None:
    groups = groups_of(["golden_mmlu_pro", "golden_llmrouter/mmlu", "other"])
    assert ("golden_mmlu_pro", "golden_llmrouter/mmlu") in groups
    assert ("other",) in groups
    assert len(groups) == 2


def test_equal_candidates_give_way_to_the_plainest() -> None:
    def candidate(measure: float, length: float, votes: bool = False, share: float = 0.0) -> dict[str, object]:
        return {"measure": measure, "length_weight": length, "votes": votes, "difficulty_share": share}

    best = [candidate(0.560, 1.0, votes=True), candidate(0.5595, 1.5), candidate(0.5594, 1.25), candidate(0.55, 3.0)]
    assert plainest(best, 0.001) == best[1]
    assert plainest(best, 0.0) == best[0]


def test_labels_mix_gap_and_difficulty_within_a_source() -> None:
    rows = Rows(
        tuple("abcd"),
        np.array(["t", "t", "t", "battles_human/arena_hard1k"]),
        np.array([1.0, 0.0, 0.5, 1.0]),
        np.full(4, np.nan),
        np.array([-0.2, -0.9, -0.5, np.nan]),
    )
    plain = labels(rows, 0.0, use_votes=False)
    np.testing.assert_allclose(plain[:3], np.array([1.0, 0.0, 0.5]) / np.std([1.0, 0.0, 0.5]))
    assert np.isnan(plain[3])
    whole = labels(rows, 1.0, use_votes=False)
    assert whole[:3].mean() == pytest.approx(plain[:3].mean())
    assert (whole[:3] - whole[:3].mean()).std() == pytest.approx(1.0)
