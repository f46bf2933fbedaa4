"""The sections of a report on mf and embeddings."""

# ruff: noqa: RUF001 - multiplication signs and dashes are what a reader expects

from __future__ import annotations

from benchmarks.harness.names import NUMPY, ROUTELLM
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import count, number, ratio, table
from benchmarks.mf.names import MF_LOGITS


def mf_parts(report: Report) -> list[str]:
    """Return the sections on mf."""
    one, many = report["mf_one"], report["mf_many"]
    rows, columns = (count(size) for size in many["shape"])
    return [
        "## mf on embeddings",
        (
            f"RouteLLM's shape: 64 models, {count(one['dim'])} dimensions; random weights. µs a call, median of blocks "
            f"of {one['embeddings']} calls in a plain `for` loop over different embeddings."
        ),
        _one_table(report),
        (
            f"p50 to p99 are of single calls, which include one clock read ({one['clock_ns']:.0f} ns). RouteLLM turns "
            "the list of floats that its service answers into a tensor; *spared the list* hands it an array instead. "
            "*Through CachedEmbedder* begins with the prompt's text and finds its embedding in memory."
        ),
        f"### A batch of {rows} × {columns} float32",
        (
            f"{many['bytes'] / 1e6:.1f} MB, median of {many['rounds']} turns. The yardstick is the fastest of "
            f"{len(many['readers'])} bare reads of the same bytes in this run: {many['yardstick']}."
        ),
        _many_table(report),
        "### All models at once",
        _all_models_table(report),
    ]


def _one_table(report: Report) -> str:
    one = report["mf_one"]
    rows = [
        [
            name,
            number(value),
            number(one["us_a_call_same_embedding"].get(name)) if name in one["us_a_call_same_embedding"] else "—",
            *(
                number(one["single_calls"][name][key]) if name in one["single_calls"] else "—"
                for key in ("p50_us", "p95_us", "p99_us")
            ),
            ratio(one["ratio_to_ours"][name]),
        ]
        for name, value in one["us_a_call"].items()
    ]
    header = ["µs a call", "in turn", "the same again", "p50", "p95", "p99", "ratio (p5 – p95; of totals)"]
    return table(header, rows)


def _many_table(report: Report) -> str:
    many = report["mf_many"]
    rows = [
        [
            name,
            number(value * many["shape"][0] / 1e3),
            number(many["gb_per_s"][name]),
            f"{100 * many['share_of_each_reader'][name]:.0f} %" if name in many["share_of_each_reader"] else "—",
        ]
        for name, value in many["us_a_row"].items()
    ]
    if ROUTELLM in many["us_a_row_on_sample"]:
        extrapolated = many["us_a_row_on_sample"][ROUTELLM] * many["shape"][0] / 1e3
        rows.append([f"RouteLLM, from {many['sampled_rows']} rows, one a call", number(extrapolated), "—", "—"])
    return table(["", "ms a batch", "GB/s", "our share of this read's speed"], rows)


def _all_models_table(report: Report) -> str:
    rows = [
        [
            f"{count(row['embeddings'])} × {row['models']} logits",
            *(number(row["us"][name]) for name in (MF_LOGITS, NUMPY)),
            f"{number(row['ratio_to_ours'][NUMPY]['median'])} ×",
        ]
        for row in report["mf_all_models"]
    ]
    return table(["µs a call", MF_LOGITS, "numpy matmul", "ratio"], rows)
