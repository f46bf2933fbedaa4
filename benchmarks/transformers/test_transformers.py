"""The page on transformers is that of its numbers, and docs/performance.md shows the same."""

# ruff: noqa: RUF001 - multiplication signs are what a reader expects

from __future__ import annotations

from typing import Any

from benchmarks.harness.places import RESULTS
from benchmarks.harness.suites import committed, shown
from benchmarks.transformers import page
from benchmarks.transformers.names import CACHED, FLOAT32, INT8, NO_PREFIX, PREFILL, TORCH, UNCACHED


def ratio(value: float) -> dict[str, float]:
    return {"median": value, "p5": value, "p95": value, "of_totals": value}


def sample() -> dict[str, Any]:
    """A report as `python -m benchmarks transformers` writes it."""
    ms = {FLOAT32: 16.0, INT8: 5.0, TORCH: 17.5}
    ratios = {name: ratio(taken / ms[INT8]) for name, taken in ms.items()}
    return {
        "missing": {},
        "bert": [{"tokens": 64, "batch": 1, "ms": ms, "ratio_to_int8": ratios}],
        "bert_quality": {
            "prompts": 64,
            "to_float32": {name: {"max_difference": 0.01, "decisions_changed": 1} for name in ms},
        },
        "causal_llm": {
            "model": "llama", "parameters": 134_000_000, "prompts": 6, "prompt_tokens": 120.0, "unscored": 0,
            "max_difference_to_whole_pass": 2e-6,
            "ms": {PREFILL: 100.0, NO_PREFIX: 200.0, CACHED: 500.0, UNCACHED: 1400.0},
            "ratio": {name: ratio(2.0) for name in (NO_PREFIX, CACHED, UNCACHED)},
        },
        "cold_start": {
            "mf": {
                "wall_ms": 120.0, "resident_mb": 40.0, "stages_ms": {"import": 60.0, "load": 5.0, "first route": 0.1},
            }
        },
    }  # fmt: skip


def test_the_budget_holds_or_not() -> None:
    quality = {"exports": [{"kind": "bert", "precision": "int8", "apgr": {"mmlu": {"difference": -0.004}}}]}
    text = page.tables(sample(), quality)
    assert "| 3.5 × | ≥ 3 × | yes | 0.0040, yes |" in text
    report = sample()
    report["bert"][0]["ratio_to_int8"][TORCH] = ratio(2.5)
    quality["exports"][0]["apgr"]["gsm8k"] = {"difference": 0.02}  # type: ignore[index]
    assert "| 2.5 × | ≥ 3 × | **no** | 0.0200, **no** |" in page.tables(report, quality)
    assert "not measured" in page.tables(report, None)


def test_every_contender_and_stage_has_its_figure() -> None:
    text = page.tables(sample(), None)
    assert "| 64 | 1 | 16 (3.2 ×) | 5 | 17.5 (3.5 ×) |" in text
    assert f"| {UNCACHED} | 1,400 | 2 (2 – 2; 2) |" in text
    assert "| mf | 120 | 60 | 5 | 0.1 | 40 |" in text


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    report, quality = committed("transformers.json"), committed("transformers_quality.json")
    text = (RESULTS / "transformers.md").read_text(encoding="utf-8")
    assert text == page.page(report, quality)
    assert shown(page.MARKERS) == page.tables(report, quality).strip()
