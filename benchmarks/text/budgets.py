"""The speeds promised from text to decision."""

# ruff: noqa: RUF001 - the multiplication sign is what a reader expects

from __future__ import annotations

import math
from typing import Final

from benchmarks.harness.budgets import Budget, times
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import bound, count, number
from benchmarks.text.names import MODEL2VEC, ROUTE, TOKENIZERS


def _p99(report: Report, name: str) -> str:
    found = report["text"]["contenders"].get(name)
    return f"{name} {number(found['p99_us'])} µs" if found else "no peer installed"


def _model2vec(report: Report, key: str) -> float:
    return float(report["text"]["ratio_to_route"].get(MODEL2VEC, {}).get(key, math.nan))


def _text_quality(report: Report) -> str:
    found = report["text_quality"]
    if found is None:
        return f"not checked: {report['missing']['reference path']}"
    return (
        f"{count(found['decisions_equal'])} of {count(found['prompts'])} decisions as in float64, win rates within "
        f"{bound(found['max_win_rate_difference'])}"
    )


def apgr(report: Report) -> str:
    """Return what the router's makers measured."""
    parts = [f"{name} {value:.3f}" for name, value in report["router"]["apgr"].items()]
    return ", ".join(parts) or "not stated by the router"


TEXT_BUDGETS: Final = (
    Budget(
        "text → decision, one call, p50 over prompts",
        "µs",
        50,
        8,
        lambda r: r["text"]["contenders"][ROUTE]["p50_us"],
        lambda r: times(r["text"]["ratio_to_route"], MODEL2VEC, TOKENIZERS),
        _text_quality,
    ),
    Budget(
        "text → decision, one call, p99 over prompts",
        "µs",
        1000,
        None,
        lambda r: r["text"]["contenders"][ROUTE]["p99_us"],
        lambda r: _p99(r, MODEL2VEC),
        _text_quality,
    ),
    Budget(
        "text → decision against model2vec + numpy, median of each prompt's ratio",
        "×",
        10,
        30,
        lambda r: _model2vec(r, "median"),
        lambda r: f"{number(_model2vec(r, 'of_totals'))} × in total time",
        _text_quality,
        at_most=False,
    ),
    Budget(
        "text → decision, batches of 256, one core",
        "prompts/s",
        None,
        150_000,
        lambda r: r["throughput"]["prompts_per_s"][ROUTE],
        lambda r: times(r["throughput"]["ratio_to_route"], MODEL2VEC, TOKENIZERS),
        lambda r: "as one call each, bitwise" if r["text_quality"] else _text_quality(r),
        at_most=False,
    ),
)
