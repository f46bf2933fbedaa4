"""The speeds promised of sw_ranking."""

# ruff: noqa: RUF001 - the multiplication sign is what a reader expects

from __future__ import annotations

import math
from typing import Any, Final

from benchmarks.harness.budgets import Budget, times
from benchmarks.harness.names import NUMPY, ROUTELLM
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import bound, count, number
from benchmarks.similarity.names import FAISS, SW_COMPRESSED, SW_FLOAT32, SW_NAMES, SW_PEERS, USEARCH

# How far a compressed win rate may be from the exact one.
TOLERANCE: Final = 1e-3
MANY_BATTLES: Final = 1_000_000


def compressed(report: Report) -> str:
    """Name the fastest compressed precision whose win rates stay within the tolerance, else the most exact one."""
    found = report["sw_quality"]["of"]
    measured = [name for name in SW_COMPRESSED if name in found]
    kept = [name for name in measured if found[name]["max_difference_to_float32"] <= TOLERANCE]
    if not kept:
        return min(measured, key=lambda name: found[name]["max_difference_to_float32"])
    return min(kept, key=lambda name: report["sw_one"]["single_calls"][name]["p50_us"])


def _routellm(report: Report, name: str) -> float:
    return float(report["sw_one"]["routellm_ratio_to"].get(name, {}).get("median", math.nan))


def _routellm_takes(report: Report) -> str:
    microseconds = report["sw_one"]["routellm_us"].get(ROUTELLM)
    return "no peer installed" if microseconds is None else f"RouteLLM {number(microseconds / 1e3)} ms"


def _exact_quality(report: Report) -> str:
    quality = report["sw_quality"]
    found = quality["of"][SW_FLOAT32]
    text = f"within {bound(found['max_difference'])} of float64 on {count(quality['queries'])} queries"
    if "max_difference_of_routellm_solver" in quality:
        text += f"; with RouteLLM's solver within {bound(quality['max_difference_of_routellm_solver'])} of RouteLLM"
    return text


def _compressed_quality(report: Report) -> str:
    name, quality = compressed(report), report["sw_quality"]
    found = quality["of"][name]
    return (
        f"{_precision(name)}: within {bound(found['max_difference_to_float32'])} of exact on "
        f"{count(quality['queries'])} queries, states {bound(found['error_bound'])}"
    )


def _largest(report: Report) -> dict[str, Any] | None:
    """Return the fastest compressed precision's entry at a million battles."""
    entries = [
        entry
        for entry in report["sw_by_battles"]
        if entry["battles"] == MANY_BATTLES
        and entry["precision"] != "float32"
        and entry["max_difference_to_float32"] <= TOLERANCE
    ]
    return min(entries, key=lambda entry: entry["p50_us"], default=None)


def _largest_ms(report: Report) -> float:
    entry = _largest(report)
    return math.nan if entry is None else entry["p50_us"] / 1e3


def _largest_read(report: Report) -> str:
    exact = [
        entry
        for entry in report["sw_by_battles"]
        if entry["battles"] == MANY_BATTLES and entry["precision"] == "float32"
    ]
    return f"exact {number(exact[0]['p50_us'] / 1e3)} ms" if exact else "not measured"


def _largest_quality(report: Report) -> str:
    entry = _largest(report)
    if entry is None:
        return "not measured"
    return (
        f"{entry['precision']}: within {bound(entry['max_difference_to_float32'])} of exact on "
        f"{count(entry['queries'])} queries, states {bound(entry['error_bound'])}"
    )


def _batch(report: Report) -> dict[str, Any]:
    return next(entry for entry in report["sw_batches"] if entry["threads"] == 1)


def _batch_peers(report: Report) -> str:
    found = _batch(report)["us"]
    parts = [f"{name} {number(found[name])} µs a query" for name in (NUMPY, FAISS, USEARCH) if name in found]
    return ", ".join(parts)


def _text(report: Report) -> dict[str, Any]:
    """Return the faster precision's figures of the command."""
    return min(report["sw_command"].values(), key=lambda found: found["p50_us"])


def _text_quality(report: Report) -> str:
    found = report["sw_text"]["quality"].values()
    equal, prompts = min(entry["decisions_equal"] for entry in found), report["sw_text"]["prompts"]
    return f"{count(equal)} of {count(prompts)} decisions as exact"


def _precision(name: str) -> str:
    return next(precision for precision, known in SW_NAMES.items() if known == name)


SIMILARITY_BUDGETS: Final = (
    Budget(
        "sw_ranking, 65,000 battles × 1,536, float32 exact, against a bare read of its bytes",
        "×",
        1.5,
        1.15,
        lambda r: r["sw_one"]["times_yardstick"],
        lambda r: times(r["sw_one"]["ratio_to"][SW_FLOAT32], *SW_PEERS),
        _exact_quality,
    ),
    Budget(
        "the same, against RouteLLM",
        "×",
        20,
        None,
        lambda r: _routellm(r, SW_FLOAT32),
        _routellm_takes,
        _exact_quality,
        at_most=False,
    ),
    Budget(
        "sw_ranking, the same battles, compressed, p50",
        "ms",
        1,
        0.3,
        lambda r: r["sw_one"]["single_calls"][compressed(r)]["p50_us"] / 1e3,
        lambda r: times(r["sw_one"]["ratio_to"][compressed(r)], *SW_PEERS),
        _compressed_quality,
    ),
    Budget(
        "the same, against RouteLLM",
        "×",
        400,
        None,
        lambda r: _routellm(r, compressed(r)),
        _routellm_takes,
        _compressed_quality,
        at_most=False,
    ),
    Budget(
        "sw_ranking, 1,000,000 battles × 1,536, compressed, p50",
        "ms",
        None,
        1,
        _largest_ms,
        _largest_read,
        _largest_quality,
    ),
    Budget(
        "sw_ranking, 65,000 battles, a batch of 256 against numpy, compressed",
        "×",
        3,
        None,
        lambda r: _batch(r)["ratio_to"][compressed(r)].get(NUMPY, {}).get("median", math.nan),
        _batch_peers,
        _compressed_quality,
        at_most=False,
    ),
    Budget(
        "text → decision by sw_ranking at 65,000 battles, `routellm-fast route`, p50",
        "ms",
        1,
        None,
        lambda r: _text(r)["p50_us"] / 1e3,
        lambda r: f"p99 {number(_text(r)['p99_us'] / 1e3)} ms",
        _text_quality,
    ),
)
