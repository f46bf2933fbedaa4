"""The sections of a report from text to decision."""

# ruff: noqa: RUF001 - multiplication signs and dashes are what a reader expects

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.harness.reports import Report
from benchmarks.harness.tables import count, number, ratio, table
from benchmarks.text.names import MODEL2VEC, TOKENIZERS


def text_parts(report: Report) -> list[str]:
    """Return the sections from text to decision."""
    text = report["text"]
    characters = {name: count(value) for name, value in text["characters"].items()}
    return [
        "## Text → decision",
        (
            f"{count(text['prompts'])} {text['source']}, one call each, shuffled; {characters['p50']} characters at "
            f"the median, {characters['p99']} at p99, {characters['p100']} at most. A prompt's figure is its median "
            f"over {text['rounds']} rounds; p50, p95, p99, max and mean are over prompts. *Any call*: over all single "
            "calls of all rounds, with whatever else the machine did. Every call includes one clock read, "
            f"{text['clock_ns']:.0f} ns."
        ),
        _text_table(report),
        "*Ratio*: the time of this contender over that of `route`, prompt by prompt.",
        f"### In batches of {report['throughput']['batch']}",
        _throughput_table(report),
        "### Cost against length",
        (
            "ASCII text made of natural prompts, median µs a call. All read at most 512 tokens; `tokenizers` gets "
            "its text cut as model2vec cuts it, because by itself it reads to the end."
        ),
        _sweep_table(report["by_length"], "characters", text["contenders"]),
        "### Cost against batch size",
        "The same natural prompts in batches of every size, median µs a prompt.",
        _sweep_table(report["by_batch"], "batch", text["contenders"]),
    ]


def _text_table(report: Report) -> str:
    keys = ("p50_us", "p95_us", "p99_us", "max_us", "mean_us")
    rows = [
        [
            name,
            *(number(found[key]) for key in keys),
            number(found["single_call_p99_us"]),
            number(found["single_call_p999_us"]),
            number(found["ascii_p50_us"]),
            number(found["non_ascii_p50_us"]),
            count(found["per_s"]),
            ratio(report["text"]["ratio_to_route"][name]),
        ]
        for name, found in report["text"]["contenders"].items()
    ]
    header = ["µs", "p50", "p95", "p99", "max", "mean", "any call p99", "any call p99.9", "p50 ASCII", "p50 other"]
    return table([*header, "prompts/s, a call each", "ratio (p5 – p95; of totals)"], rows)


def _throughput_table(report: Report) -> str:
    found = report["throughput"]
    rows = [
        [name, count(value), ratio(found["ratio_to_route"][name])] for name, value in found["prompts_per_s"].items()
    ]
    return table(["", "prompts/s on one core", "ratio (p5 – p95; of totals)"], rows)


def _sweep_table(rows: list[dict[str, Any]], key: str, contenders: Iterable[str]) -> str:
    names = list(contenders)
    body = [
        [count(row[key]), *(number(row["us"][name]) for name in names)]
        + [f"{number(row['ratio_to_ours'][name]['median'])} ×" for name in names if name in (MODEL2VEC, TOKENIZERS)]
        for row in rows
    ]
    ratios = [f"ratio to {name}" for name in names if name in (MODEL2VEC, TOKENIZERS)]
    return table([key, *names, *ratios], body)
