from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.evaluation import read_benchmarks, router_metrics
from routellm_fast.routers import SimilarityWeightedRouter
from routellm_fast.routers.loading import router_directory

PROMPTS = ["", "hello", "Prove that there are infinitely many primes.", "What is the capital of France?"]


@pytest.fixture(scope="module")
def router() -> SimilarityWeightedRouter:
    loaded = rf.load_router("sw_ranking")
    assert isinstance(loaded, SimilarityWeightedRouter)
    return loaded


def test_it_reaches_the_numbers_it_claims(router: SimilarityWeightedRouter, shared_data: Path) -> None:
    claimed = router.provenance["evaluation"]
    benchmarks = read_benchmarks(shared_data / "routellm_evals")
    assert set(claimed) >= {benchmark.name for benchmark in benchmarks}
    for benchmark in benchmarks:
        found = router_metrics("router", router.win_rates(benchmark.prompts), benchmark)
        assert found.apgr == pytest.approx(claimed[benchmark.name]["this router"]["apgr"], abs=1e-3)


def test_its_pair_is_in_different_tiers_and_prompts_differ(router: SimilarityWeightedRouter) -> None:
    strong, weak = (router.tiers[name] for name in router.scoring_pair)
    assert strong < weak
    win_rates = router.win_rates(PROMPTS)
    assert len(set(win_rates.tolist())) == len(PROMPTS)
    assert ((win_rates > 0.5) & (win_rates < 1.0)).all()
    assert router.route(PROMPTS[1], router.threshold_for(1.0)).win_rate == win_rates[1]


def test_it_refers_to_the_table_of_the_other_router_and_saved_again_stands_alone(
    router: SimilarityWeightedRouter, tmp_path: Path
) -> None:
    directory = router_directory("sw_ranking")
    assert sum(file.stat().st_size for file in directory.iterdir()) < 5 << 20
    assert json.loads((directory / "router.json").read_text())["embedder"]["kind"] == "shipped"
    router.save(tmp_path / "own")
    assert json.loads((tmp_path / "own" / "router.json").read_text())["embedder"]["kind"] == "static"
    np.testing.assert_array_equal(rf.load_router(tmp_path / "own").win_rates(PROMPTS), router.win_rates(PROMPTS))


def test_a_directory_of_its_name_goes_before_it(
    router: SimilarityWeightedRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.for_pair(*reversed(router.scoring_pair)).save(tmp_path / "sw_ranking")
    monkeypatch.chdir(tmp_path)
    assert rf.load_router("sw_ranking").model_pair == tuple(reversed(router.model_pair))
