"""What RouteLLM's own evaluate() and generate_results() said, recorded by make_evaluation_vectors.py; and its paper."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from routellm_fast.evaluation import Benchmark, bootstrap, router_metrics, saving_ratio, sweep
from routellm_fast.prices import PAPER_TOKENS, PAPER_USD_PER_1M

CASES = json.loads((Path(__file__).parent / "evaluation_vectors.json").read_text())["cases"]


def benchmark_of(case: dict) -> Benchmark:
    strong, weak = np.array(case["strong"]), np.array(case["weak"])
    return Benchmark(case["benchmark"], ("p",) * len(strong), strong, weak, 1.0, 0)


@pytest.mark.parametrize("case", CASES, ids=[f"{case['benchmark']}-{len(case['strong'])}" for case in CASES])
def test_recorded_evaluations(case):
    benchmark, win_rates = benchmark_of(case), np.array(case["win_rates"])
    scale = 1.0 if case["benchmark"] == "MTBench" else 100.0  # accuracy is in percent, scores are not
    curve = sweep(win_rates, benchmark)
    recorded = sorted(case["curve"])
    np.testing.assert_allclose(curve.strong_share * 100.0, [share for share, _ in recorded], atol=1e-9)
    np.testing.assert_allclose(curve.quality * scale, [quality for _, quality in recorded], atol=1e-9)
    metrics = router_metrics("router", win_rates, benchmark)
    assert metrics.apgr == pytest.approx(case["apgr"], abs=1e-12)
    # RouteLLM rounds these to two digits.
    cpt = [100.0 * share for share in (metrics.cpt20, metrics.cpt50, metrics.cpt80)]
    assert cpt == pytest.approx(case["cpt_percent"], abs=5.1e-3)


def test_a_resample_is_evaluated_as_routellm_would_evaluate_its_prompts():
    benchmark, win_rates = benchmark_of(CASES[0]), np.array(CASES[0]["win_rates"])
    draws = bootstrap({"router": win_rates}, benchmark, resamples=20, seed=3)["router"]
    generator = np.random.default_rng(3)
    rows = generator.integers(len(win_rates), size=(20, len(win_rates)))
    for index, drawn in enumerate(rows):
        expected = router_metrics("router", win_rates[drawn], benchmark.select(drawn))
        assert draws["apgr_routellm"][index] == pytest.approx(expected.apgr, abs=1e-12)
        assert draws["cpt50"][index] == pytest.approx(expected.cpt50, abs=1e-12)


# CPT(50 %) and CPT(80 %) of random routing and of the best routers, tables 1 to 3 of the paper; its table 6.
@pytest.mark.parametrize(
    ("name", "random", "best", "ratios"),
    [
        ("MT-Bench", (49.03, 78.08), (13.40, 31.31), (3.66, 2.49)),
        ("MMLU", (50.07, 79.93), (35.40, 70.31), (1.41, 1.14)),
        ("GSM8K", (50.00, 80.08), (33.64, 63.26), (1.49, 1.27)),
    ],
)
def test_cost_saving_ratios_of_the_paper(name, random, best, ratios):
    """The paper divides shares of strong calls: with its own prices for the weak model the ratios are smaller."""
    found = [saving_ratio(own / 100, random_share=chance / 100) for own, chance in zip(best, random, strict=True)]
    assert found == pytest.approx(ratios, abs=6e-3)
    strong, weak = PAPER_USD_PER_1M.values()
    for own, chance, ratio in zip(best, random, ratios, strict=True):
        dollars = saving_ratio(own / 100, random_share=chance / 100, strong_cost=strong, weak_cost=weak)
        assert 1.0 < dollars < ratio + 6e-3


def test_the_price_of_the_paper_is_that_of_its_tokens():
    # 10 and 30 US dollars a million tokens of prompt and of answer.
    per_million = (95 * 10 + 264 * 30) / PAPER_TOKENS.total
    assert per_million == pytest.approx(PAPER_USD_PER_1M["gpt-4-1106-preview"], abs=0.05)
