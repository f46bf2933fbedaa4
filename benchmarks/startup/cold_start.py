"""From the start of a process to its first decision: what a service waits for, and a serverless function pays for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.startup import fresh

_PROGRAM = """
start = time.perf_counter_ns(); import routellm_fast; stage('import', start)
start = time.perf_counter_ns(); router = routellm_fast.load_router({router!r}{options}); stage('load', start)
start = time.perf_counter_ns(); decision = router.route("hello"); stage('first route', start)
assert decision.model in router.model_pair
"""


def measure(routers: Mapping[str, str], caches: Mapping[str, Path], interpreters: int) -> dict[str, Any]:
    """Start interpreters, one after the other, routers in turns.

    Args:
        routers: Directories, or kinds of those that ship, by the name that the report shows.
        caches: For some of these names, the folder that keeps their optimized graphs. Such routers are measured with
            and without it. The first start fills the folder, and is not counted.
        interpreters: Number of interpreters for each router and way.
    """
    programs = {name: _PROGRAM.format(router=place, options="") for name, place in routers.items()}
    for name, folder in caches.items():
        options = f", optimized_cache={str(folder)!r}"
        programs[f"{name}, optimized graph kept"] = _PROGRAM.format(router=routers[name], options=options)
    for program in programs.values():
        fresh.run_program(program)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    for _ in range(interpreters):
        for name, program in programs.items():
            runs[name].append(fresh.run_program(program))
    return {
        name: {
            "interpreters": interpreters,
            "wall_ms": float(np.median([run["wall_ms"] for run in found])),
            "stages_ms": {
                stage["stage"]: float(np.median([run["stages"][index]["ms"] for run in found]))
                for index, stage in enumerate(found[0]["stages"])
                if stage["stage"] != "interpreter"
            },
            "resident_mb": float(np.median([run["stages"][-1]["resident_kib"] for run in found])) * 1024 / 1e6,
        }
        for name, found in runs.items()
    }
