"""The table of RouteLLM's benchmarks in the model cards of the routers that ship."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from routellm_fast.evaluation.comparison import evaluate
from routellm_fast.evaluation.datasets import read_benchmarks
from routellm_fast.evaluation.results import BenchmarkResult, Evaluation, RouterResult
from routellm_fast.routers.base import Router

OWN: Final = "this router"
TITLES: Final = {"mmlu": "MMLU", "gsm8k": "GSM8K", "mt_bench": "MT-Bench"}
READING_GUIDE: Final = """\
RouteLLM's recorded answers, decontaminated by its rule (MMLU 14,037 questions, GSM8K 1,307, MT-Bench 72). APGR: 0.5 is
chance; first as RouteLLM's code takes it, with a 95 % interval, then as its paper defines it. CPT(x): share of prompts
for the strong model at which x of the quality gap is recovered; less is better. Saving: how many times fewer strong
calls than random routing at CPT(50 %). "prompt length" routes by the number of words, "random" is the mean of 500
random routers, "oracle" knows both answers. Intervals are bootstrapped over prompts, for random over its runs."""


def evaluated(routers: Mapping[str, Router], benchmarks: Path, *, created: str) -> Evaluation:
    """Evaluate routers on the benchmarks of a folder of RouteLLM's layout. Raises DataError."""
    return evaluate(routers, read_benchmarks(benchmarks), created=created)


def results_table(evaluation: Evaluation) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| benchmark | router | APGR | 95 % interval | APGR, paper | CPT(50 %) | CPT(80 %) | saving |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for benchmark in evaluation.benchmarks:
        for row in benchmark.routers:
            m = row.metrics
            cells = (
                TITLES[benchmark.name],
                row.name,
                f"{m.apgr_routellm.value:.3f}",
                f"{m.apgr_routellm.low:.3f} to {m.apgr_routellm.high:.3f}",
                f"{m.apgr_paper.value:.3f}",
                f"{m.cpt50.value:.1%}",
                f"{m.cpt80.value:.1%}",
                f"{m.saving_cpt50.value:.2f} ×",  # noqa: RUF001 - the sign for "times"
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def record(evaluation: Evaluation) -> dict[str, Any]:
    """Return what a router's provenance keeps: by benchmark and router, APGR with its interval, and CPT."""
    return {
        benchmark.name: {row.name: _numbers(row) for row in benchmark.routers} for benchmark in evaluation.benchmarks
    }


def held_against(evaluation: Evaluation, other: str) -> str:
    """Return the sentence that says on which benchmarks the first router is better than another row, and how surely."""
    parts = [f"{_verdict(benchmark, other)} on {TITLES[benchmark.name]}" for benchmark in evaluation.benchmarks]
    return f"Held against {other}, this router is {'; '.join(parts)}."


def _verdict(benchmark: BenchmarkResult, other: str) -> str:
    difference = next(d for d in benchmark.differences if {d.router, d.other} == {OWN, other})
    found, sign = difference.apgr, 1.0 if difference.router == OWN else -1.0
    low, high = sorted((sign * found.low, sign * found.high))
    side = "ahead" if sign * found.value > 0.0 else "behind"
    surely = "" if low > 0.0 or high < 0.0 else ", not clearly"
    return f"{side} by {abs(found.value):.3f} ({low:+.3f} to {high:+.3f}{surely})"


def _numbers(row: RouterResult) -> dict[str, float]:
    m = row.metrics
    return {
        "apgr": round(m.apgr_routellm.value, 4),
        "apgr_low": round(m.apgr_routellm.low, 4),
        "apgr_high": round(m.apgr_routellm.high, 4),
        "apgr_paper": round(m.apgr_paper.value, 4),
        "cpt50": round(m.cpt50.value, 4),
        "cpt80": round(m.cpt80.value, 4),
        "saving_cpt50": round(m.saving_cpt50.value, 3),
    }
