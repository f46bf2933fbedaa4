"""What is kept of many times: medians, percentiles, ratios. Units stand in the names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def latencies(times_ns: NDArray[Any]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(times_ns, (50, 95, 99)) / 1e3
    return {
        "p50_us": float(p50),
        "p95_us": float(p95),
        "p99_us": float(p99),
        "max_us": float(times_ns.max()) / 1e3,
        "mean_us": float(times_ns.mean()) / 1e3,
        "per_s": 1e9 / float(times_ns.mean()),
    }


def median_us(times_ns: NDArray[Any]) -> float | None:
    return float(np.median(times_ns)) / 1e3 if times_ns.size else None


def medians(times: dict[str, NDArray[Any]], ours: str) -> dict[str, Any]:
    return {"us": {name: median_us(found) for name, found in times.items()}, "ratio_to_ours": ratios(times, ours)}


def ratios(times: dict[str, NDArray[Any]], ours: str) -> dict[str, dict[str, float]]:
    """Return peer / ours. Over items: of each item's medians over rounds; over blocks: of each round's turn."""
    found = {}
    for name, theirs in times.items():
        mine, other = times[ours], theirs
        if mine.ndim == 2:
            mine, other = np.median(mine, axis=0), np.median(other, axis=0)
        p5, p50, p95 = np.percentile(other / mine, (5, 50, 95))
        found[name] = {
            "median": float(p50),
            "p5": float(p5),
            "p95": float(p95),
            "of_totals": float(other.sum() / mine.sum()),
        }
    return found


def quantiles(values: NDArray[Any]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(values, q)) for q in (0, 5, 50, 95, 99, 100)}


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logistic function, in float64: from odds in natural logarithms to win rates."""
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))
