"""Promised speeds, and the table that holds them against what was measured."""

# ruff: noqa: RUF001 - the multiplication sign is what a reader expects

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.harness.reports import Report
from benchmarks.harness.tables import number, table


@dataclass(frozen=True, slots=True)
class Budget:
    """One line of the budget table.

    Attributes:
        stage: What is measured.
        unit: Unit of must, aim and the measured value.
        must: The bound that has to hold; None where there is only an aim.
        aim: The bound that we would like to hold.
        value: Finds the measured value.
        peer: Finds a sentence about peers.
        quality: Finds a sentence about the result's quality.
        at_most: Whether the bounds are upper ones.
    """

    stage: str
    unit: str
    must: float | None
    aim: float | None
    value: Callable[[Report], float]
    peer: Callable[[Report], str]
    quality: Callable[[Report], str]
    at_most: bool = True

    def holds(self, limit: float | None, value: float) -> str:
        """Say whether a bound is met."""
        if limit is None or math.isnan(value):
            return "—"
        return "yes" if (value <= limit if self.at_most else value >= limit) else "**no**"


def times(ratios: Mapping[str, Mapping[str, float]], *names: str) -> str:
    """Return how many times as long each of the named peers takes, of those that took part."""
    parts = [f"{number(ratios[name]['median'])} × {name}" for name in names if name in ratios]
    return ", ".join(parts) or "no peer installed"


def budget_table(budgets: Iterable[Budget], report: Report) -> str:
    """Return the table of these budgets."""
    rows = []
    for budget in budgets:
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
