"""The report on two versions as Markdown. Pure: every figure comes from the JSON."""

# ruff: noqa: RUF001 - dashes are what a reader expects

from __future__ import annotations

from typing import Any, Final

from benchmarks.harness import machine
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import count, number, table

# What a version may take longer and still count as not slower, where the whole interval allows it.
TOLERANCE: Final = 1.03


def page(report: Report) -> str:
    """Return the whole report."""
    about = report["machine"]
    parts = [f"# {report['labels']['before']} and {report['labels']['after']}, side by side"]
    if report["effort"] != "full":
        parts.append(f"**A {report['effort']} run: it shows that the command works. Its figures mean nothing.**")
    parts += [f"Missing: {name}, {reason}." for name, reason in sorted(report["missing"].items())]
    parts += [_side(report, side) for side in ("before", "after")]
    parts += [
        (
            "Both versions ran in turns on the same inputs, one thread each, in several pairs of processes: where a "
            "process has its memory moves its times. An item's time is its median over rounds in a process, then over "
            "the pairs; p50 and p99 are over items. *Ratio*: after / before, with the 95 % interval of a bootstrap "
            "over the pairs. "
            f"*Slower*: yes where the whole interval lies above {TOLERANCE:g}, no where it lies below, else unclear. "
            "*Same bits*: whether the win rates of all items are equal to the bit."
        ),
        case_table(report["cases"]),
        (
            f"{count(len(report['cases']))} rows; prompts: {report['prompts']}. Load averages of 1, 5 and 15 minutes: "
            f"{_loads(report['loads']['before'])} at the beginning, {_loads(report['loads']['after'])} at the end. "
            f"`{report['command']}`, {about['date']}, on: {machine.line(about)}."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def case_table(cases: list[dict[str, Any]]) -> str:
    """Return one row a case and percentile."""
    rows = [
        [
            case["case"],
            case["percentile"],
            *(number(case[key]) for key in ("before_us", "after_us")),
            f"{case['ratio']:.3f} ({case['low']:.3f} – {case['high']:.3f})",
            is_slower(case),
            {None: "—", True: "yes", False: "**no**"}[case["has_same_bits"]],
            f"{count(case['pairs'])} × {count(case['items'])}",
        ]
        for case in cases
    ]
    header = ("case", "", "before, µs", "after, µs", "ratio (95 %)", "slower", "same bits", "pairs × items")
    return table(header, rows)


def is_slower(case: dict[str, Any]) -> str:
    """Say whether a version is slower by more than the tolerance."""
    if case["low"] > TOLERANCE:
        return "**yes**"
    return "no" if case["high"] <= TOLERANCE else "unclear"


def _side(report: Report, side: str) -> str:
    found = report["sides"][side]
    text = (
        f"*{side.capitalize()}*: {report['labels'][side]}, routellm-fast {found['version']}, kernels {found['isa']}, "
        f"Python {found['python']}, numpy {found['numpy']}."
    )
    if found["is_editable"]:
        text += " **An editable installation, which imports more slowly than a wheel.**"
    return text


def _loads(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
