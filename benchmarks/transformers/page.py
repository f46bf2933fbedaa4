"""The report on transformers as Markdown, with the quality beside the speed. Pure: all comes from the JSON."""

# ruff: noqa: RUF001 - the multiplication sign is what a reader expects

from __future__ import annotations

from typing import Final

from benchmarks.harness import machine
from benchmarks.harness.reports import Report, command_of
from benchmarks.harness.tables import bound, count, number, ratio, table
from benchmarks.startup.page import cold_start_table
from benchmarks.transformers.names import CACHED, FLOAT32, INT8, NO_PREFIX, PREFILL, TORCH, UNCACHED

# Where the tables stand in docs/performance.md.
MARKERS: Final = ("<!-- transformers:begin -->", "<!-- transformers:end -->")

# The budget: int8 at 64 tokens, one prompt, against torch eager; and what it may cost in APGR.
BUDGET_TOKENS: Final = 64
BUDGET_RATIO: Final = 3.0
BUDGET_APGR: Final = 0.01


def page(report: Report, quality: Report | None) -> str:
    """Return transformers.md."""
    missing = "".join(f"* Not measured: {name} ({why}).\n" for name, why in sorted(report["missing"].items()))
    quick = "" if report["effort"] == "full" else "**A quick run: its figures say nothing.**\n\n"
    return (
        f"# Routers that read prompts themselves\n\n{quick}{tables(report, quality)}\n{missing}\n"
        f"{machine.line(report['machine'])}. Loads before and after: {report['loads']['before']}, "
        f"{report['loads']['after']}. `{command_of(report)}`, {report['machine']['date']}.\n"
    )


def tables(report: Report, quality: Report | None) -> str:
    """Return all tables."""
    parts = []
    if "bert" in report:
        parts += [budget_line(report, quality), bert_table(report), bert_agreement(report)]
    if "causal_llm" in report:
        parts.append(causal_table(report["causal_llm"]))
    parts.append(cold_start_table(report))
    return "\n\n".join(parts) + "\n"


def budget_line(report: Report, quality: Report | None) -> str:
    """Return the budget's row: measured, bound, quality."""
    cell = next((one for one in report["bert"] if one["tokens"] == BUDGET_TOKENS and one["batch"] == 1), None)
    found = "not measured" if cell is None or TORCH not in cell["ratio_to_int8"] else None
    holds = "—"
    if cell is not None and found is None:
        value = cell["ratio_to_int8"][TORCH]["median"]
        found, holds = f"{number(value)} ×", "yes" if value >= BUDGET_RATIO else "**no**"
    change = apgr_change(quality, "bert", "int8")
    shown = "not measured" if change is None else f"{change:.4f}, {'yes' if change <= BUDGET_APGR else '**no**'}"
    row = (f"bert int8 against torch eager, {BUDGET_TOKENS} tokens", found or "", f"≥ {BUDGET_RATIO:g} ×", holds, shown)
    return table(
        ("stage", "measured", "must", "holds", f"largest change of APGR against float32 (must: ≤ {BUDGET_APGR:g})"),
        [row],
    )


def apgr_change(quality: Report | None, kind: str, precision: str) -> float | None:
    """Return by how much an export changes APGR at most, of transformers_quality.json."""
    for row in (quality or {}).get("exports", ()):
        if (row["kind"], row["precision"]) == (kind, precision) and row["apgr"]:
            return float(max(abs(entry["difference"]) for entry in row["apgr"].values()))
    return None


def bert_table(report: Report) -> str:
    """Return milliseconds a batch of every contender, and how many times as long as int8 they take."""
    names = list(report["bert"][0]["ms"])

    def shown(cell: Report, name: str) -> str:
        beside = "" if name == INT8 else f" ({number(cell['ratio_to_int8'][name]['median'])} ×)"
        return number(cell["ms"][name]) + beside

    rows = [
        (str(cell["tokens"]), str(cell["batch"]), *(shown(cell, name) for name in names)) for cell in report["bert"]
    ]
    return (
        "Raw text to win rate, one thread, a classifier of 22 million parameters: milliseconds a batch, and in "
        f"parentheses how many times as long as {INT8} in the same turn.\n\n" + table(("tokens", "batch", *names), rows)
    )


def bert_agreement(report: Report) -> str:
    """Return how far each contender is from float32."""
    found = report["bert_quality"]
    rows = [
        (name, bound(entry["max_difference"]), f"{count(entry['decisions_changed'])} of {count(found['prompts'])}")
        for name, entry in found["to_float32"].items()
        if name != FLOAT32
    ]
    return (
        f"The same prompts by each of them, beside {FLOAT32}; the head of this classifier is random and wide, so that "
        "differences are larger than those of a trained one.\n\n"
        + table(("contender", "largest difference of win rates", "decisions changed at the median"), rows)
    )


def causal_table(found: Report) -> str:
    """Return the causal language model's contenders."""
    rows = [
        (name, number(found["ms"][name]), "" if name == PREFILL else ratio(found["ratio"][name]))
        for name in (PREFILL, NO_PREFIX, CACHED, UNCACHED)
    ]
    difference = bound(found["max_difference_to_whole_pass"])
    return (
        f"A language model of {count(found['parameters'])} parameters ({found['model']}), one prompt a call, "
        f"{count(found['prompt_tokens'])} tokens at the median, one thread. Ratio: median (5th to 95th percentile; of "
        f"totals). One pass with the prefix's cache is within {difference} of a whole pass; on "
        f"{found['unscored']} of {found['prompts']} prompts the model named no score.\n\n"
        + table(("contender", "ms a prompt", "as long as one pass"), rows)
    )
