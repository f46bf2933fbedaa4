"""The speeds promised of mf on embeddings."""

from __future__ import annotations

from typing import Final

from benchmarks.harness.budgets import Budget, times
from benchmarks.harness.names import NUMPY, ROUTELLM
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import bound
from benchmarks.mf.names import MF_ONE


def _many_peers(report: Report) -> str:
    many = report["mf_many"]
    return times({NUMPY: many["ratio_to_ours"][NUMPY]} | many["ratio_to_ours_on_sample"], NUMPY, ROUTELLM)


def _mf_quality(report: Report) -> str:
    found = report["mf_quality"]
    parts = [f"within {bound(found['max_win_rate_difference'])} of float64"]
    if "max_difference_to_routellm" in found:
        parts.append(f"within {bound(found['max_difference_to_routellm'])} of RouteLLM")
    return ", ".join(parts)


MF_BUDGETS: Final = (
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
)
