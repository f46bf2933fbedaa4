"""Two versions in turns: fresh processes for imports and loads, some pairs of processes for everything else.

Where a process has its memory moves its times by several percent, however often a call is repeated in it. So each case
is timed in several pairs of processes, and what differs between them is part of the interval.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.before_after.figures import compare
from benchmarks.before_after.inputs import write_mf_inputs, write_similarity_inputs, write_text_inputs
from benchmarks.before_after.sides import AFTER, BEFORE, Side
from benchmarks.harness import machine
from benchmarks.harness.progress import say
from benchmarks.harness.prompts import prompts_at_hand
from benchmarks.harness.reports import Report
from benchmarks.startup import fresh


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        prompts: Prompts at most; None for all.
        embeddings: Rows of mf's batch.
        battles: Sizes of sw_ranking's banks.
        queries: Queries of sw_ranking.
        pairs: Pairs of processes, one of each version.
        rounds: Passes over a case's items in each pair.
        block_rounds: The same, of cases with few items.
        interpreters: Fresh processes of each version.
    """

    prompts: int | None
    embeddings: int
    battles: tuple[int, ...]
    queries: int
    pairs: int
    rounds: int
    block_rounds: int
    interpreters: int


FULL: Final = Effort(None, 10_000, (10_000, 65_000), 64, 7, 3, 9, 31)
QUICK: Final = Effort(64, 1_000, (1_000,), 8, 2, 2, 2, 2)
# Cases with fewer items than this have as many rounds as block_rounds.
_FEW_ITEMS: Final = 8

_PROGRAMS: Final = {
    "import": "start = time.perf_counter_ns(); import routellm_fast; stage('measured', start)",
    **{
        f"load_router({kind!r})": f"import routellm_fast; start = time.perf_counter_ns(); "
        f"routellm_fast.load_router({kind!r}); stage('measured', start)"
        for kind in ("mf", "sw_ranking")
    },
}


def measure(pythons: Mapping[str, Path], *, effort: Effort = FULL) -> Report:
    """Measure both versions.

    Args:
        pythons: Interpreters of BEFORE and AFTER, each with its own routellm_fast.
        effort: How much is measured: FULL, or QUICK (few rounds, on small inputs).

    Raises:
        CannotRunError: One of them cannot be started, or lacks what is called.
    """
    prompts = prompts_at_hand()
    loads = machine.loads()
    report: Report = {"missing": prompts.missing, "prompts": prompts.source}
    with _processes(pythons) as sides:
        report["sides"] = {side: process.ask(do="describe") for side, process in sides.items()}
    say("import and load")
    report["cases"] = _fresh_cases(pythons, effort.interpreters)
    with _inputs() as folder:
        write_text_inputs(folder, prompts, effort.prompts)
        report["cases"] += _cases("text", pythons, folder, effort)
    with _inputs() as folder:
        write_mf_inputs(folder, effort.embeddings)
        report["cases"] += _cases("mf", pythons, folder, effort)
    for battles in effort.battles:
        with _inputs() as folder:
            write_similarity_inputs(folder, battles, effort.queries)
            report["cases"] += _cases("similarity", pythons, folder, effort)
    report["machine"] = machine.describe()
    report["loads"] = {"before": loads, "after": machine.loads()}
    return report


def _fresh_cases(pythons: Mapping[str, Path], interpreters: int) -> list[dict[str, Any]]:
    """Time in fresh interpreters, which take turns. The first of each is not counted: it compiles and reads files."""
    rng = random.Random(0)
    found = []
    for name, program in _PROGRAMS.items():
        times: dict[str, list[list[float]]] = {side: [] for side in pythons}
        for turn in range(interpreters + 1):
            for side in rng.sample(list(pythons), len(pythons)):
                stages = fresh.run_program(program, python=pythons[side])["stages"]
                if turn:
                    times[side].append([stages[-1]["ms"] * 1e6])
        found.append(_entry(name, "p50", times, None))
    return found


def _cases(kind: str, pythons: Mapping[str, Path], folder: Path, effort: Effort) -> list[dict[str, Any]]:
    """Time one kind of case."""
    times: dict[str, dict[str, list[list[float]]]] = {}
    digests: dict[str, set[str]] = {}
    has_tail: dict[str, bool] = {}
    for pair in range(effort.pairs):
        with _processes(pythons) as sides:
            cases = {side: process.ask(do="prepare", kind=kind, folder=str(folder)) for side, process in sides.items()}
            for name, case in cases[BEFORE].items():
                say(f"{name}, pair {pair + 1} of {effort.pairs}")
                rounds = effort.block_rounds if case["items"] < _FEW_ITEMS else effort.rounds
                has_tail[name] = case["tail"]
                digests.setdefault(name, set()).update(cases[side][name]["digest"] for side in sides)
                taken = times.setdefault(name, {side: [] for side in sides})
                for side, rows in _times(name, sides, case["items"], case["stretch"], rounds).items():
                    taken[side].append(np.median(rows, axis=0).tolist())
    return [
        _entry(name, percentile, taken, len(digests[name]) == 1)
        for name, taken in times.items()
        for percentile in (("p50", "p99") if has_tail[name] else ("p50",))
    ]


@contextlib.contextmanager
def _processes(pythons: Mapping[str, Path]) -> Iterator[dict[str, Side]]:
    """Start a process of each version, and end both."""
    with contextlib.ExitStack() as stack:
        yield {side: stack.enter_context(Side(side, python)) for side, python in pythons.items()}


@contextlib.contextmanager
def _inputs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="before-after-") as name:
        yield Path(name)


def _times(name: str, sides: Mapping[str, Side], items: int, stretch: int, rounds: int) -> dict[str, list[list[float]]]:
    """Return (rounds, items) nanoseconds of each side. Sides take turns at stretches, in an order drawn each time."""
    rng = random.Random(0)
    times: dict[str, list[list[float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        row: dict[str, list[float]] = {side: [] for side in sides}
        for begin in range(0, items, stretch):
            for side in rng.sample(list(sides), len(sides)):
                row[side] += sides[side].ask(do="time", case=name, begin=begin, end=min(begin + stretch, items))
        for side, taken in row.items():
            times[side].append(taken)
    return times


def _entry(
    name: str, percentile: str, times: Mapping[str, list[list[float]]], has_same_bits: bool | None
) -> dict[str, Any]:
    before, after = (_array(times[side]) for side in (BEFORE, AFTER))
    figures = compare(before, after, float(percentile.removeprefix("p")))
    return {"case": name, "percentile": percentile, "has_same_bits": has_same_bits} | figures


def _array(times: list[list[float]]) -> NDArray[np.float64]:
    return np.array(times, dtype=np.float64)
