"""What importing and loading take, in time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from benchmarks.startup import fresh


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: fresh interpreters for each program."""

    interpreters: int


FULL: Final = Effort(interpreters=11)
QUICK: Final = Effort(interpreters=2)


def measure(effort: Effort) -> dict[str, Any]:
    """Time imports in fresh interpreters, whose files the operating system has in memory and Python has compiled."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in fresh.PROGRAMS}
    for _ in range(effort.interpreters):
        for name in fresh.PROGRAMS:
            runs[name].append(fresh.run(name))
    programs: dict[str, Any] = {}
    for name, found in runs.items():
        stages = [stage["stage"] for stage in found[0]["stages"]]
        programs[name] = {
            stage: {
                "ms": float(np.median([run["stages"][i]["ms"] for run in found])),
                "resident_mb": float(np.median([run["stages"][i]["resident_kib"] for run in found])) * 1024 / 1e6,
                "peak_mb": float(np.median([run["stages"][i]["peak_kib"] for run in found])) * 1024 / 1e6,
            }
            for i, stage in enumerate(stages)
        }
    heavy = sorted({module for name in runs if "numpy" not in name for run in runs[name] for module in run["heavy"]})
    return {
        "interpreters": effort.interpreters,
        "programs": programs,
        "heavy_modules_loaded": heavy,
        "heavy_modules_looked_for": list(fresh.HEAVY_MODULES),
    }
