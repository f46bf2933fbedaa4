from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.harness.places import REPOSITORY, RESULTS
from benchmarks.harness.reports import between
from benchmarks.quality import adapt, adapt_page
from routellm_fast import ModelPair, load_router
from routellm_fast.adaptation.labels import Labels

PAIR = ModelPair("large", "small")
TOPICS = ("the proof of a theorem", "a poem about rain", "an integral", "a greeting")


def labels(count: int, *, noise: float = 0.1) -> Labels:
    rng = np.random.default_rng(0)
    prompts = tuple(f"Write {TOPICS[row % 4]}, number {row}." for row in range(count))
    needs = (np.arange(count) % 2 == 0) ^ (rng.random(count) < noise)
    return Labels(PAIR, prompts, tuple(f"g{row // 3}" for row in range(count)), np.ones(count), 1.0 - needs)


def record(count: int = 160) -> dict[str, Any]:
    given = labels(count)
    measured = adapt.Measured("topics", given, load_router(), with_routellm=False)
    measured.least_left = 40
    traffic = {
        "about": "two kinds",
        "strong_model": "large",
        "weak_model": "small",
        "prompts": count,
        "groups": len(set(given.groups)),
        "strong_quality": 1.0,
        "weak_quality": float(given.weak.mean()),
        "draws": list(measured.curves((50, 100, 500), 2)),
        "everything": measured.everything(),
    }
    found = adapt.noise_verdicts({"topics": labels(420)}, load_router(), 3)
    rounded: dict[str, Any] = adapt.rounded({"traffics": {"topics": traffic}, "noise": found})
    return rounded


def test_no_group_is_learned_from_and_scored() -> None:
    groups = [f"g{row // 4}" for row in range(100)]
    seen, rest = adapt.drawn(groups, 50, np.random.default_rng(1))
    assert len(seen) == 50
    assert not {groups[row] for row in seen.tolist()} & {groups[row] for row in rest.tolist()}


def test_apgr_is_the_mean_of_pgr_over_strong_shares() -> None:
    gap = np.array([1.0, 1.0, 0.0, 0.0])
    assert adapt.apgr(np.array([4.0, 3.0, 2.0, 1.0]), gap) == pytest.approx(0.75)
    assert adapt.apgr(np.array([1.0, 2.0, 3.0, 4.0]), gap) == pytest.approx(0.25)
    assert adapt.apgr(np.zeros(4), gap) == pytest.approx(0.5)


def test_the_saving_is_at_the_least_share_that_keeps_the_quality() -> None:
    strong, weak = np.ones(20), np.r_[np.zeros(10), np.ones(10)]
    names = tuple(str(row) for row in range(20))
    found = Labels(PAIR, names, names, strong, weak)
    assert adapt.saving(-np.arange(20.0), found) == pytest.approx(0.55)  # nine of ten that need it keep 95 %
    assert adapt.saving(np.arange(20.0), found) == pytest.approx(0.05)


def test_own_labels_gain_and_the_page_says_so() -> None:
    found = record()
    traffic = found["traffics"]["topics"]
    assert adapt_page.gains(traffic, 100).min() > 0.05
    assert adapt_page.sizes_of(found["traffics"]) == [50, 100]  # 500 of 160 cannot be drawn
    assert traffic["everything"]["adapted"] > traffic["everything"]["as shipped"]
    page = adapt_page.page(found)
    assert "| mean gain at 100 labels | +0." in page
    assert "topics (two kinds): large / small" in page
    assert "3 traffics whose scores were dealt out anew" in page
    assert adapt_page.draw(found).startswith("<?xml")


def test_looks_at_the_evaluation_sets_are_all_written_down() -> None:
    draws = record()["traffics"]["topics"]["draws"]
    looks = [{"created": day, "found": {"gsm8k": {"draws": draws}}} for day in ("2026-01-01", "2026-02-02")]
    page = adapt_page.evaluations_page(looks)
    assert "## Look 1, 2026-01-01" in page
    assert "## Look 2, 2026-02-02" in page


@pytest.mark.parametrize("name", ["adapt", "adapt_evaluations"])
def test_the_committed_page_is_that_of_the_committed_numbers(name: str) -> None:
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    page = adapt_page.page(found) if name == "adapt" else adapt_page.evaluations_page(found["looks"])
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("name", adapt.DOCUMENTS)
def test_documents_show_the_committed_numbers(name: str) -> None:
    found = json.loads((RESULTS / "adapt.json").read_text(encoding="utf-8"))
    shown = between(REPOSITORY / name, adapt_page.MARKERS)
    assert shown.strip() == adapt.DOCUMENTS[name](found).strip()
