"""RouteLLM's own numbers, and its procedure restated without our code."""

from __future__ import annotations

import numpy as np
import pytest

from routellm_fast.evaluation import Benchmark, read_gsm8k, read_mmlu, read_mt_bench, router_metrics, sweep


@pytest.mark.parametrize(
    ("read", "count", "strong", "weak"),
    [
        (read_mmlu, 14_037, 80.58702, 68.09147),
        (read_gsm8k, 1_307, 85.76894, 63.73374),
        (read_mt_bench, 72, 9.211806, 8.281250),
    ],
)
def test_decontaminated_quality(shared_data, read, count, strong, weak):
    benchmark = read(shared_data / "routellm_evals")
    scale = 100.0 / benchmark.max_quality if benchmark.max_quality == 1.0 else 1.0
    assert len(benchmark.prompts) == count
    assert benchmark.strong_quality.mean() * scale == pytest.approx(strong, abs=1e-5)
    assert benchmark.weak_quality.mean() * scale == pytest.approx(weak, abs=1e-5)


def test_domains(shared_data):
    folder = shared_data / "routellm_evals"
    domains = [len(set(read(folder).domains)) for read in (read_mmlu, read_gsm8k, read_mt_bench)]
    assert domains == [57, 0, 8]


def restated(scores, strong, weak):
    """`evaluate` and `apgr_metric`, `pct_call_metric` of RouteLLM's evals, step by step on percentages."""
    edges = [np.percentile(scores, 10.0 * i) for i in range(11)]
    points = []
    for i, edge in enumerate(edges):
        chosen = [s >= edge if i < 10 else s > edge for s in scores]
        quality = 100.0 * sum(s if c else w for s, w, c in zip(strong, weak, chosen, strict=True)) / len(scores)
        points.append((100.0 * sum(chosen) / len(scores), quality))
    points.sort()
    share, quality = (np.array(column) for column in zip(*points, strict=True))
    alone = [100.0 * sum(strong) / len(strong), 100.0 * sum(weak) / len(weak)]

    def area(values):
        return sum((share[i + 1] - share[i]) / 100.0 * (values[i] + values[i + 1]) / 2.0 for i in range(10))

    low, high = area([alone[1]] * 11), area([alone[0]] * 11)
    cpt = [np.interp(x * (alone[0] - alone[1]) + alone[1], quality, share) for x in (0.2, 0.5, 0.8)]
    return (area(quality) - low) / (high - low), cpt


@pytest.mark.parametrize("seed", range(5))
def test_formulas(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(50, 400))
    strong, weak = (rng.random(count) < 0.85).astype(float), (rng.random(count) < 0.6).astype(float)
    scores = rng.random(count)
    metrics = router_metrics("x", scores, Benchmark("x", ("p",) * count, strong, weak, 1.0, 0))
    apgr, cpt = restated(scores, strong, weak)
    assert metrics.apgr == pytest.approx(apgr, abs=1e-12)
    assert [metrics.cpt20, metrics.cpt50, metrics.cpt80] == pytest.approx([c / 100.0 for c in cpt], abs=1e-12)


def test_thresholds_are_those_of_qcut():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(9)
    scores, strong, weak = rng.random(333), rng.random(333), rng.random(333)
    _, edges = pandas.qcut(pandas.Series(scores), 10, retbins=True)
    shares = sorted(np.mean(scores >= edge if i < 10 else scores > edge) for i, edge in enumerate(edges))
    curve = sweep(scores, Benchmark("x", ("p",) * 333, strong, weak, 1.0, 0))
    np.testing.assert_allclose(curve.strong_share, shares, atol=1e-12)
