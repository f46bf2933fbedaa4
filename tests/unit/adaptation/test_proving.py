from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError, ModelPair
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, Choice, benchmark_of, prove
from routellm_fast.adaptation.report import Report
from routellm_fast.adaptation.verdict import LEVEL, verdict_on
from routellm_fast.evaluation import router_metrics
from routellm_fast.evaluation.results import LENGTH, ORACLE, RANDOM
from routellm_fast.texts import word_counts
from tests.support.proof_builders import QUALITY, known_traffic, made_labels, quick_proof


def by_hand():
    """Eight prompts; the score sends the last four to the strong model."""
    strong = np.array([1, 1, 1, 0, 1, 1, 1, 1], float)
    weak = np.array([1, 1, 0, 0, 1, 0, 0, 0], float)
    costs = np.tile([0.01, 0.002], (8, 1))
    return made_labels(strong, weak, costs_usd=costs), np.arange(8) / 8.0


def test_what_a_threshold_does_by_hand():
    labels, score = by_hand()
    point = quick_proof(labels, score, Choice("half", 0.5)).points[0]
    assert point.strong_share.value == 0.5
    assert point.saved_calls.value == 0.5
    assert point.quality.value == 6 / 8
    assert point.kept is not None
    assert point.kept.value == pytest.approx(6 / 7, abs=1e-6)
    # The strong model scores 7/8, the weak one 3/8: 6/8 is three quarters of the way.
    assert point.mixture_share is not None
    assert point.mixture_share.value == pytest.approx(0.75)
    assert point.beyond_mixture is not None
    assert point.beyond_mixture.value == pytest.approx(0.25)


def test_money_by_hand():
    labels, score = by_hand()
    money = quick_proof(labels, score, Choice("half", 0.5)).points[0].money
    assert money is not None
    assert money.strong_usd.to_list() == [0.01, 0.01, 0.01]
    assert money.weak_usd.value == 0.002
    assert money.routed_usd.value == pytest.approx(0.006)
    assert money.saved_usd.value == pytest.approx(0.004)
    assert money.saved_share.value == pytest.approx(0.4)
    assert money.mixture_usd is not None
    assert money.mixture_usd.value == pytest.approx(0.002 + 0.75 * 0.008)
    assert money.beyond_mixture_usd is not None
    assert money.beyond_mixture_usd.value == pytest.approx(0.002)


def test_a_prompt_at_the_threshold_goes_to_the_strong_model():
    labels, score = by_hand()
    assert quick_proof(labels, score, Choice("at", 0.875)).points[0].strong_share.value == 1 / 8
    assert quick_proof(labels, score, Choice("above", np.nextafter(0.875, 1))).points[0].strong_share.value == 0.0


@pytest.mark.parametrize("costs", [None, np.zeros((8, 2))])
def test_without_costs_there_is_no_money(costs):
    labels, score = by_hand()
    unpriced = made_labels(labels.strong, labels.weak, costs_usd=costs)
    assert quick_proof(unpriced, score).points[0].money is None


def test_a_strong_model_that_is_free_saves_no_money():
    labels, score = by_hand()
    odd = made_labels(labels.strong, labels.weak, costs_usd=np.tile([0.0, 0.1], (8, 1)))
    assert quick_proof(odd, score).points[0].money is None


def test_apgr_is_that_of_an_evaluation():
    labels, score = known_traffic()
    proof = quick_proof(labels, score, shipped=1.0 - score)
    assert proof.measured is not None
    assert [row.name for row in proof.measured.routers] == [ADAPTED, SHIPPED, LENGTH, RANDOM, ORACLE]
    bench = benchmark_of(labels)
    for name, scores in {ADAPTED: score, SHIPPED: 1.0 - score, LENGTH: word_counts(labels.prompts)}.items():
        found = proof.apgr(name)
        assert found is not None
        assert found.value == pytest.approx(router_metrics("", scores, bench).apgr)
        assert found.low < found.value < found.high
    assert proof.apgr("nobody") is None


def test_leads_are_the_adapted_router_less_the_other():
    labels, score = known_traffic()
    proof = quick_proof(labels, score, shipped=1.0 - score)
    for other in (SHIPPED, LENGTH):
        lead, own, others = proof.lead(other), proof.apgr(ADAPTED), proof.apgr(other)
        assert lead is not None
        assert own is not None
        assert others is not None
        assert lead.value == pytest.approx(own.value - others.value)
        assert 0.0 < lead.low < lead.value < lead.high
    assert proof.lead("nobody") is None


def test_intervals_are_over_groups():
    """Each prompt ten times, in one group, says no more than once."""
    strong, weak = (np.random.default_rng(seed).random(60) for seed in (1, 2))
    score = np.random.default_rng(3).random(60)
    alone = quick_proof(made_labels(strong + 0.0, weak * 0.5), score, resamples=1000)
    repeated = made_labels(np.repeat(strong, 10), np.repeat(weak * 0.5, 10), np.repeat(np.arange(60), 10))
    tenfold = quick_proof(repeated, np.repeat(score, 10), resamples=1000)
    single = quick_proof(made_labels(repeated.strong, repeated.weak), np.repeat(score, 10), resamples=1000)
    assert tenfold.gap == alone.gap
    assert tenfold.points[0].kept == alone.points[0].kept
    assert single.gap.width < 0.5 * alone.gap.width
    for proof, same in ((tenfold, True), (single, False)):
        found, one = proof.apgr(ADAPTED), alone.apgr(ADAPTED)
        assert found is not None
        assert one is not None
        assert (found.width > 0.7 * one.width) is same


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    labels, score = known_traffic(20_000, seed=3)
    truth = quick_proof(labels, score, resamples=2, deals=1, random_runs=1).points[0]
    rng, covered = np.random.default_rng(4), np.zeros(3)
    for trial in range(60):
        rows = rng.choice(len(labels), 120, replace=False)
        point = quick_proof(labels.select(rows), score[rows], deals=1, random_runs=1, seed=trial).points[0]
        pairs = [(getattr(point, name), getattr(truth, name)) for name in ("saved_calls", "kept", "beyond_mixture")]
        covered += [found.low <= known.value <= found.high for found, known in pairs]
    assert covered.min() >= 51  # 57 expected


@pytest.mark.parametrize("count", [1, 2, 20, 40, 60])
@pytest.mark.parametrize("kind", ["noise", "weak better", "ties", "all strong", "constant score", "zeros", "one group"])
def test_small_parts_are_said_something_about(count, kind):
    rng = np.random.default_rng(count)
    strong, weak = (rng.random(count) < 0.8).astype(float), (rng.random(count) < 0.6).astype(float)
    score = np.full(count, 0.25) if kind == "constant score" else rng.random(count)
    if kind == "weak better":
        strong, weak = np.minimum(strong, weak), np.maximum(strong, weak)
    if kind == "ties":
        weak = strong
    if kind == "all strong":
        strong, weak = np.ones(count), np.zeros(count)
    if kind == "zeros":
        strong, weak = np.zeros(count), np.zeros(count)
    groups = np.zeros(count) if kind == "one group" else None
    proof = quick_proof(made_labels(strong, weak, groups), score, shipped=score, resamples=50)
    assert (proof.measured is not None) is bool(strong.mean() > weak.mean())
    report = Report(proof, "2026-01-01")
    assert all(line and "nan" not in line for line in report.lines())
    json.dumps(report.to_json(), allow_nan=False)
    assert verdict_on(proof).kind not in ("saves", "rival")


def test_the_same_seed_gives_the_same_proof():
    labels, score = known_traffic(100)
    first, again = (quick_proof(labels, score, seed=3) for _ in range(2))
    assert first == again
    assert first != quick_proof(labels, score, seed=4)


@pytest.mark.parametrize(
    ("count", "scores", "choices", "words"),
    [
        (0, {ADAPTED: np.zeros(0)}, [QUALITY], "kept apart"),
        (3, {SHIPPED: np.zeros(3)}, [QUALITY], "'adapted router'"),
        (3, {ADAPTED: np.zeros(3)}, [], "0 thresholds"),
        (3, {ADAPTED: np.zeros(2)}, [QUALITY], "3 finite win rates"),
        (3, {ADAPTED: np.full(3, np.nan)}, [QUALITY], "3 that are not"),
        (3, {ADAPTED: np.zeros(3), ORACLE: np.zeros(3)}, [QUALITY], "'oracle'"),
    ],
)
def test_what_is_no_proof(count, scores, choices, words):
    with pytest.raises(InvalidArgumentError, match=words):
        prove(made_labels(np.ones(count), np.zeros(count)), scores, choices)


TRAFFICS = {
    "eq_bench_v2": ("gpt-4-1106-preview", "TheBloke__Mixtral-8x7B-Instruct-v0.1-GGUF"),
    "kor_bench": ("gpt-4o", "Mistral-7B-Instruct-v0.3"),
    "zeroeval_math_l5": ("gpt-4-turbo-2024-04-09", "gpt-3.5-turbo-0125"),
}


def real_labels(folder: Path, name: str, strong: str, weak: str) -> Labels:
    csv.field_size_limit(1 << 24)
    with gzip.open(folder / "traffic" / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[strong] and row[weak]]
    by_prompt = {row["prompt"]: row for row in rows}
    scores = np.array([[float(row[model]) for model in (strong, weak)] for row in by_prompt.values()])
    groups = tuple(row["prompt_group"] for row in by_prompt.values())
    return Labels(ModelPair(strong, weak), tuple(by_prompt), groups, scores[:, 0], scores[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAFFICS)
def test_on_real_traffics_noise_is_not_believed_and_knowledge_is(name, shared_data):
    labels = real_labels(shared_data, name, *TRAFFICS[name])
    believed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        part = labels.select(rng.choice(len(labels), 160, replace=False))
        verdict = verdict_on(quick_proof(part, rng.random(160), resamples=20, random_runs=2))
        believed += verdict.kind in ("saves", "missed_quality", "saves_nothing_here", "rival")
    assert believed <= 8  # 2.5 expected
    knows = quick_proof(labels, 0.5 + 0.4 * labels.gap, Choice("where it gains", 0.55))
    assert knows.p_values[ADAPTED] <= LEVEL
    assert verdict_on(knows).kind == "saves"


def test_prompts_of_one_template_prove_nothing(shared_data):
    labels = real_labels(shared_data, "farel_bench", "gpt-4-turbo", "gpt-3.5-turbo")
    proof = quick_proof(labels, 0.5 + 0.4 * labels.gap)
    assert (proof.prompts, proof.groups) == (450, 1)
    assert verdict_on(proof).kind == "too_few"
