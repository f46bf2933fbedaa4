"""What the gateway must keep to, beside what other gateways do in the same run."""

# ruff: noqa: RUF001 - the multiplication sign is what a reader expects

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.gateway.names import DIRECT, ONE_WORKER, OURS, TENSORZERO, TWO_WORKERS
from benchmarks.harness.budgets import Budget
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import number

_NAN: Final = float("nan")


def highest_rate(report: Report) -> str:
    """Return the highest fixed rate of a report, requests a second."""
    rates: dict[str, Any] = report["rates"]
    return max(rates, key=int)


def _at_rate(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = report["rates"][highest_rate(report)]
    return found


def _clients(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = report["clients"]["16"]
    return found


def _first_event(report: Report) -> dict[str, Any]:
    return _of_a_stream(report, "first")


def _word(report: Report) -> dict[str, Any]:
    return _of_a_stream(report, "word")


def _of_a_stream(report: Report, what: str) -> dict[str, Any]:
    return {name: figures[what] for name, figures in report["streams"]["1"].items() if what in figures}


def _budget(
    stage: str,
    figures: Callable[[Report], dict[str, Any]],
    key: str,
    unit: str,
    must: float,
    aim: float | None,
    *,
    at_most: bool = True,
) -> Budget:
    def value(report: Report) -> float:
        return float(figures(report).get(OURS, {}).get(key, _NAN))

    def peer(report: Report) -> str:
        others = [
            f"{name} {number(found[key])}{'' if found.get('is_carried', True) else ' (not carried)'}"
            for name, found in figures(report).items()
            if name not in (OURS, DIRECT) and key in found
        ]
        return ", ".join(others) or "no peer took part"

    return Budget(stage, unit, must, aim, value, peer, _quality, at_most=at_most)


def _quality(report: Report) -> str:
    found = report["answers"][OURS]
    return f"{found['decisions_equal']} of {found['of']} decisions as in process"


def _beside(figures: Callable[[Report], dict[str, Any]], key: str) -> Callable[[Report], float]:
    def value(report: Report) -> float:
        found = figures(report)
        if key not in found.get(OURS, {}) or key not in found.get(TENSORZERO, {}):
            return _NAN
        return float(found[OURS][key] / found[TENSORZERO][key])

    return value


def most_of_workers(report: Report) -> float:
    """Return how many times as much two workers could carry at the most, were all cores busy all the time."""
    found = report["workers"]
    one = found[ONE_WORKER]
    busy = one["cpu_share"] + one["upstream_and_clients_share"]
    cores = len({*report["cores"]["workers"], *report["cores"]["beside_workers"]})
    return min(2.0, cores / float(busy))


def of_workers(report: Report) -> float:
    """Return how many times as much two workers carry as one."""
    found = report["workers"]
    if not all("per_s" in found[name] for name in (ONE_WORKER, TWO_WORKERS)):
        return _NAN
    return float(found[TWO_WORKERS]["per_s"] / found[ONE_WORKER]["per_s"])


BUDGETS: Final = (
    _budget("added at the fixed rate, p50", _at_rate, "added_p50_ms", "ms", 0.5, 0.3),
    _budget("added at the fixed rate, p99", _at_rate, "added_p99_ms", "ms", 2.0, 1.0),
    _budget("carried with 16 clients", _clients, "per_s", "requests/s", 3_000.0, 6_000.0, at_most=False),
    _budget("added to a stream's first event, p50", _first_event, "added_p50_ms", "ms", 0.2, None),
    _budget("added to each word of a stream, p50", _word, "added_p50_ms", "ms", 0.2, None),
    Budget(
        "added by one request at a time, p50, to what TensorZero adds", "×", 1.0, None,
        _beside(lambda report: dict(report["one_client"]), "added_p50_ms"), lambda _: "1", _quality,
    ),
    Budget(
        "carried with 16 clients, to what TensorZero carries", "×", 1.0, None, _beside(_clients, "per_s"),
        lambda _: "1", _quality, at_most=False,
    ),
    Budget(
        "carried by two workers, to what one carries", "×", 1.7, None, of_workers,
        lambda report: f"at most {number(most_of_workers(report))} here", lambda _: "—", at_most=False,
    ),
)  # fmt: skip
