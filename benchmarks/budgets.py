"""The speeds that the project promises, each with what was measured, its peers and the quality of the result."""

# ruff: noqa: RUF001 - the multiplication sign is what a reader expects

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from budget import Budget, Report, times
from budgets_similarity import SIMILARITY_BUDGETS
from names import MF_ONE, MODEL2VEC, NUMPY, ROUTE, ROUTELLM, TOKENIZERS
from tables import bound, count, number, table


def _many_peers(report: Report) -> str:
    many = report["mf_many"]
    return times({NUMPY: many["ratio_to_ours"][NUMPY]} | many["ratio_to_ours_on_sample"], NUMPY, ROUTELLM)


def _p99(report: Report, name: str) -> str:
    found = report["text"]["contenders"].get(name)
    return f"{name} {number(found['p99_us'])} µs" if found else "no peer installed"


def _model2vec(report: Report, key: str) -> float:
    return report["text"]["ratio_to_route"].get(MODEL2VEC, {}).get(key, math.nan)


def _text_quality(report: Report) -> str:
    found = report["text_quality"]
    if found is None:
        return "not checked: " + report["missing"]["reference path"]
    return (
        f"{count(found['decisions_equal'])} of {count(found['prompts'])} decisions as in float64, win rates within "
        f"{bound(found['max_win_rate_difference'])}"
    )


def apgr(report: Report) -> str:
    """Return what the router's makers measured."""
    parts = [f"{name} {value:.3f}" for name, value in report["router"]["apgr"].items()]
    return ", ".join(parts) or "not stated by the router"


def _mf_quality(report: Report) -> str:
    found = report["mf_quality"]
    parts = [f"within {bound(found['max_win_rate_difference'])} of float64"]
    if "max_difference_to_routellm" in found:
        parts.append(f"within {bound(found['max_difference_to_routellm'])} of RouteLLM")
    return ", ".join(parts)


def _loaded(report: Report) -> str:
    heavy = report["import"]["heavy_modules_loaded"]
    return f"loads {', '.join(heavy)}" if heavy else "loads no heavy module"


def _import(report: Report, program: str = "import routellm_fast", stage: str = "import") -> dict[str, float]:
    return report["import"]["programs"][program][stage]


def _numpy_import(key: str, unit: str) -> Callable[[Report], str]:
    return lambda report: f"numpy alone {number(_import(report, 'import numpy')[key])} {unit}"


BUDGETS: Final = (
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
    Budget(
        "mf on a cached 1,536-d embedding, one call",
        "µs",
        3,
        1,
        lambda r: r["mf_one"]["us_a_call"][MF_ONE],
        lambda r: times(r["mf_one"]["ratio_to_ours"], NUMPY, ROUTELLM),
        _mf_quality,
    ),
    Budget(
        "mf batch, share of a bare read's speed",
        "%",
        70,
        90,
        lambda r: 100 * r["mf_many"]["share_of_yardstick"],
        _many_peers,
        _mf_quality,
        at_most=False,
    ),
    Budget("import routellm_fast", "ms", 100, None, lambda r: _import(r)["ms"], _numpy_import("ms", "ms"), _loaded),
    Budget(
        "resident after import",
        "MB",
        60,
        None,
        lambda r: _import(r)["resident_mb"],
        _numpy_import("resident_mb", "MB"),
        _loaded,
    ),
)


def budgets_of(report: Report) -> tuple[Budget, ...]:
    """Return the budgets that a report measured."""
    return BUDGETS + (SIMILARITY_BUDGETS if "sw_one" in report else ())


def budget_table(report: Report) -> str:
    """Return the table of a report's budgets."""
    rows = []
    for budget in budgets_of(report):
        value = budget.value(report)
        sign = "≤" if budget.at_most else "≥"
        must, aim = (
            "—" if limit is None else f"{sign} {number(limit)} {budget.unit}" for limit in (budget.must, budget.aim)
        )
        rows.append(
            [
                budget.stage,
                must,
                aim,
                f"**{measured(budget, report)}**",
                budget.holds(budget.must, value),
                budget.holds(budget.aim, value),
                budget.peer(report),
                budget.quality(report),
            ]
        )
    return table(["stage", "must", "aim", "measured", "must met", "aim met", "peers", "quality"], rows)


def measured(budget: Budget, report: Report) -> str:
    """Return the measured value with its unit."""
    value = budget.value(report)
    return "not measured" if math.isnan(value) else f"{number(value)} {budget.unit}"
