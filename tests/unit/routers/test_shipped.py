from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.data.digest import file_digest
from routellm_fast.evaluation import read_benchmarks, router_metrics
from routellm_fast.routers.loading import SHIPPED_ROUTER

FLOOR = {"mmlu": 0.55, "gsm8k": 0.55, "mt_bench": 0.68}


@pytest.fixture(scope="module")
def router() -> rf.Router:
    return rf.load_router()


def test_it_reaches_its_floor_and_the_numbers_it_claims(router: rf.Router, shared_data: Path) -> None:
    claimed = router.provenance["evaluation"]
    benchmarks = read_benchmarks(shared_data / "routellm_evals")
    assert {benchmark.name for benchmark in benchmarks} == set(FLOOR)
    for benchmark in benchmarks:
        found = router_metrics("router", router.win_rates(benchmark.prompts), benchmark)
        assert found.apgr >= FLOOR[benchmark.name]
        assert found.apgr == pytest.approx(claimed[benchmark.name]["this router"]["apgr"], abs=1e-3)


def test_the_model_card_states_the_numbers_of_the_manifest(router: rf.Router) -> None:
    for name, title in (("mmlu", "MMLU"), ("gsm8k", "GSM8K"), ("mt_bench", "MT-Bench")):
        apgr = router.provenance["evaluation"][name]["this router"]["apgr"]
        row = re.search(rf"\| {title} \| this router \| ([0-9.]+) \|", router.model_card)
        assert row is not None
        assert float(row[1]) == pytest.approx(apgr, abs=6e-4)  # three digits here, four there
    for word in ("licence", "MIT", "Apache-2.0", "CC-BY-4.0", router.provenance["created"], "recipes.shipped"):
        assert word in router.model_card


def test_it_was_trained_on_the_stated_files(router: rf.Router, shared_data: Path) -> None:
    for name, digest in router.provenance["files"].items():
        assert file_digest(shared_data / "train" / name) == digest


def test_shares_are_met_on_the_prompts_it_was_calibrated_on(router: rf.Router, shared_data: Path) -> None:
    from routellm_fast.tables import read_table

    rows = read_table(shared_data / "prompts" / "natural_prompts.csv.gz")
    rates = router.win_rates([row.text("prompt") for row in rows])
    for share in (0.05, 0.2, 0.5, 0.8):
        assert (rates >= router.threshold_for(share)).mean() == pytest.approx(share, abs=0.005)


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED_ROUTER.iterdir()) < 12 << 20


def test_other_names_for_the_pair_keep_the_win_rates(router: rf.Router) -> None:
    renamed = rf.load_router(strong_model="big", weak_model="small")
    assert renamed.win_rate("hello") == router.win_rate("hello")
    assert renamed.route("hello", 0.0).model == "big"
    np.testing.assert_array_equal(renamed.win_rates(["a", ""]), router.win_rates(["a", ""]))
