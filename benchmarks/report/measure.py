"""The measurements behind the report on the routers that ship, subject by subject.

Figures are JSON-able and have their units in their names. Nothing is formatted here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import benchmarks.mf.measure as mf
import benchmarks.similarity.effort as similarity
import benchmarks.startup.imports as startup
import benchmarks.text.measure as text
from benchmarks.harness import machine
from benchmarks.harness.progress import say
from benchmarks.harness.reports import Report
from benchmarks.report.suites import run_suites
from benchmarks.similarity.measure import SimilarityBench
from benchmarks.similarity.scale import by_battles
from benchmarks.similarity.text import SimilarityTextBench


def measure(*, is_quick: bool) -> Report:
    """Measure everything; progress goes to standard error."""
    report: Report = {"machine": machine.describe(), "loads": {}, "missing": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Each subject's arrays are gone before the next one's, which may be bound by memory.
        _measure_startup(report, startup.QUICK if is_quick else startup.FULL)
        _measure_text(report, text.QUICK if is_quick else text.FULL, folder)
        _measure_mf(report, mf.QUICK if is_quick else mf.FULL, folder)
        _measure_similarity(report, similarity.QUICK if is_quick else similarity.FULL, folder)
    # Described again: by now every BLAS is loaded.
    report["machine"]["blas"] = machine.describe()["blas"]
    say("the suites of pytest-benchmark")
    report["suites_exit_code"], report["suites"] = run_suites(is_quick=is_quick)
    return report


def _measure_startup(report: Report, effort: startup.Effort) -> None:
    with _section(report, "import"):
        report["import"] = startup.measure(effort)


def _measure_text(report: Report, effort: text.Effort, folder: Path) -> None:
    bench = text.TextBench(folder)
    report["router"] = bench.describe()
    with _section(report, "agreement with the float64 path"):
        report["text_quality"] = bench.quality(effort)
    with _section(report, "text to decision, one by one"):
        report["text"] = bench.one_by_one(effort)
    with _section(report, "text to decision, throughput"):
        report["throughput"] = bench.throughput(effort)
    with _section(report, "cost against length"):
        report["by_length"] = bench.by_length(effort)
    with _section(report, "cost against batch size"):
        report["by_batch"] = bench.by_batch(effort)
    report["missing"] |= bench.missing


def _measure_mf(report: Report, effort: mf.Effort, folder: Path) -> None:
    bench = mf.MfBench(folder, effort)
    with _section(report, "mf on one embedding"):
        report["mf_one"] = bench.one()
    with _section(report, "mf on a batch"):
        report["mf_many"] = bench.many()
    with _section(report, "mf, all models"):
        report["mf_all_models"] = bench.all_models()
    report["mf_quality"] = bench.quality()
    report["missing"] |= bench.missing


def _measure_similarity(report: Report, effort: similarity.Effort, folder: Path) -> None:
    with _section(report, "sw_ranking, text to decision"):
        texts = SimilarityTextBench(effort)
        report["sw_text"] = texts.one_by_one()
        report["sw_command"] = texts.command(folder)
    del texts
    with _section(report, "sw_ranking on one embedding"):
        bench = SimilarityBench(effort)
        report["sw_routers"] = bench.describe()
        report["sw_one"] = bench.one()
    with _section(report, "sw_ranking on a batch"):
        report["sw_batches"] = bench.batches()
    with _section(report, "sw_ranking, agreement with float64"):
        report["sw_quality"] = bench.quality()
    report["missing"] |= bench.missing
    del bench
    with _section(report, "sw_ranking against the number of battles"):
        report["sw_by_battles"] = by_battles(effort)


@contextmanager
def _section(report: Report, name: str) -> Iterator[None]:
    say(name)
    before = machine.loads()
    yield
    report["loads"][name] = {"before": before, "after": machine.loads()}
