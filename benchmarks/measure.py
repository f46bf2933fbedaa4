"""The measurements behind a report: everything that needs distributions or turns, which pytest-benchmark cannot give.

Each function returns JSON-able figures with their units in the names. Nothing is formatted here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fresh
import machine
import numpy as np
from effort import Effort
from measure_embeddings import EmbeddingBench
from measure_similarity import SimilarityBench
from measure_similarity_scale import by_battles
from measure_similarity_text import SimilarityTextBench
from measure_text import TextBench


def measure(effort: Effort, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything. `say` is told what comes next."""
    report: dict[str, Any] = {"machine": machine.describe(), "loads": {}, "missing": {}}

    @contextmanager
    def section(name: str) -> Iterator[None]:
        say(name)
        before = machine.loads()
        yield
        report["loads"][name] = {"before": before, "after": machine.loads()}

    with tempfile.TemporaryDirectory() as folder:
        with section("import"):
            report["import"] = importing(effort)
        text = TextBench(Path(folder))
        report["router"] = text.describe()
        with section("agreement with the float64 path"):
            report["text_quality"] = text.quality(effort)
        with section("text to decision, one by one"):
            report["text"] = text.one_by_one(effort)
        with section("text to decision, throughput"):
            report["throughput"] = text.throughput(effort)
        with section("cost against length"):
            report["by_length"] = text.by_length(effort)
        with section("cost against batch size"):
            report["by_batch"] = text.by_batch(effort)
        report["missing"] |= text.missing
        # The texts are gone before the memory-bound part, and each part's arrays before the next one's.
        del text
        embeddings = EmbeddingBench(Path(folder), effort)
        with section("mf on one embedding"):
            report["mf_one"] = embeddings.one()
        with section("mf on a batch"):
            report["mf_many"] = embeddings.many()
        with section("mf, all models"):
            report["mf_all_models"] = embeddings.all_models()
        report["mf_quality"] = embeddings.quality()
        report["missing"] |= embeddings.missing
        del embeddings
        with section("sw_ranking, text to decision"):
            similarity_text = SimilarityTextBench(effort)
            report["sw_text"] = similarity_text.one_by_one()
            report["sw_command"] = similarity_text.command(Path(folder))
        del similarity_text
        with section("sw_ranking on one embedding"):
            similarity = SimilarityBench(effort)
            report["sw_routers"] = similarity.describe()
            report["sw_one"] = similarity.one()
        with section("sw_ranking on a batch"):
            report["sw_batches"] = similarity.batches()
        with section("sw_ranking, agreement with float64"):
            report["sw_quality"] = similarity.quality()
        report["missing"] |= similarity.missing
        del similarity
        with section("sw_ranking against the number of battles"):
            report["sw_by_battles"] = by_battles(effort, say)
    # Described again: by now every BLAS is loaded.
    report["machine"]["blas"] = machine.describe()["blas"]
    return report


def importing(effort: Effort) -> dict[str, Any]:
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
