"""An evaluation made of synthetic data, as large and as varied as real ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routellm_fast.evaluation.results import (
    BenchmarkResult,
    CurvePoints,
    Difference,
    DomainResult,
    Evaluation,
    Histogram,
    MetricSet,
    RouterResult,
)
from routellm_fast.interval import Interval

PRICES = (24.7, 0.24)


def curve_of(scores: np.ndarray, strong: np.ndarray, weak: np.ndarray, points: int = 101) -> CurvePoints:
    order = np.argsort(-scores, kind="stable")
    counts = np.rint(np.linspace(0, 1, points) * len(scores)).astype(int)
    quality = weak.mean() + np.concatenate([[0.0], np.cumsum((strong - weak)[order])])[counts] / len(scores)
    share = counts / len(scores)
    threshold = np.concatenate([[1.0], scores[order]])[counts]
    cost = (share * PRICES[0] + (1 - share) * PRICES[1]) * 0.359
    return CurvePoints(*(tuple(map(float, column)) for column in (share, quality, threshold, cost)))


def metrics_of(curve: CurvePoints, half: float) -> MetricSet:
    share, quality = np.array(curve.strong_share), np.array(curve.quality)
    pgr = (quality - quality[0]) / (quality[-1] - quality[0])
    apgr = float(np.mean((pgr[1:] + pgr[:-1]) / 2))
    cpts = [float(share[np.argmax(pgr >= level)]) for level in (0.2, 0.5, 0.8)]
    around = [Interval(apgr, apgr - half, apgr + half), Interval(apgr + 0.04, apgr + 0.04 - half, apgr + 0.04 + half)]
    savings = [Interval(a / max(b, 0.01), a / max(b + half, 0.01), a / max(b - half, 0.01))
               for a, b in zip((0.5, 0.8), cpts[1:], strict=True)]  # fmt: skip
    return MetricSet(*around, *(Interval(cpt, max(cpt - half, 0), cpt + half) for cpt in cpts), *savings, *savings)


def benchmark(
    name: str = "mmlu",
    routers: Sequence[str] = ("mf", "sw_ranking"),
    prompts: int = 5000,
    domains: int = 12,
    max_quality: float = 1.0,
    seed: int = 1,
    models: tuple[str, str] = ("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
) -> BenchmarkResult:
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=prompts)
    strong = (rng.random(prompts) < 1 / (1 + np.exp(difficulty - 1.6))).astype(float) * max_quality
    weak = (rng.random(prompts) < 1 / (1 + np.exp(1.5 * difficulty - 0.6))).astype(float) * max_quality
    half = 1.2 / np.sqrt(prompts)
    rows = []
    for index, router in enumerate(routers):
        scores = 0.55 + 0.02 * (0.6 * difficulty + rng.normal(size=prompts) * (0.4 + 0.5 * index))
        curve = curve_of(scores, strong, weak)
        counts, edges = np.histogram(scores, bins=50)
        found = {
            f"domain_{number:02d}_of_knowledge": DomainResult(
                30 + number, 0.1 - 0.02 * (number % 7), Interval(center, center - 0.12, center + 0.1)
                if (number % 5) else None
            )
            for number in range(domains)
            for center in [0.62 - 0.015 * number + 0.01 * index]
        }  # fmt: skip
        histogram = Histogram(tuple(edges.tolist()), tuple(counts.tolist()))
        rows.append(RouterResult(router, "router", metrics_of(curve, half), curve, found, histogram))
    for baseline, noise in (("random", None), ("prompt length", 1.2)):
        scores = rng.random(prompts) if noise is None else difficulty + rng.normal(size=prompts) * noise
        curve = curve_of(scores, strong, weak)
        if noise is None:
            line = tuple(np.interp(curve.strong_share, [0, 1], [weak.mean(), strong.mean()]).tolist())
            curve = CurvePoints(curve.strong_share, line, curve.threshold, curve.cost_usd_per_1k)
        rows.append(RouterResult(baseline, "baseline", metrics_of(curve, half), curve))
    curve = curve_of(strong - weak + 1e-9 * difficulty, strong, weak)
    rows.append(RouterResult("oracle", "bound", metrics_of(curve, 0.0), curve))
    differences = tuple(
        Difference(router, other, Interval(0.02, 0.02 - half, 0.02 + half))
        for router in routers
        for other in (routers[0], "prompt length")
        if router != other
    )
    notes = ("Intervals are wide: the benchmark has few prompts.",) if prompts < 200 else ()
    return BenchmarkResult(
        name, prompts, 5, *models, float(strong.mean()), float(weak.mean()), max_quality, tuple(rows), differences,
        notes=notes,
    )  # fmt: skip


def evaluation(**overrides: object) -> Evaluation:
    routers = overrides.pop("routers", ("mf", "sw_ranking"))
    benchmarks = (
        benchmark("mmlu", routers, **overrides),  # type: ignore[arg-type]
        benchmark("mt_bench", routers, prompts=72, domains=0, max_quality=10.0, seed=3),  # type: ignore[arg-type]
    )
    return Evaluation(
        "2026-11-24",
        {name: {"directory": f"routers/{name}", "kind": "mf", "digest": "ab" * 32} for name in routers},  # type: ignore[attr-defined]
        benchmarks,
        {"seed": 1, "resamples": 2000, "prices": {"gpt-4-1106-preview": 24.7, "mixtral": 0.24}},
    )
