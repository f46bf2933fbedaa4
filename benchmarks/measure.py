"""The measurements behind a report: everything that needs distributions or turns, which pytest-benchmark cannot give.

Each function returns JSON-able figures with their units in the names. Nothing is formatted here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fresh
import machine
import numpy as np
from interleave import clock_ns, looped, time_blocks, time_items
from numpy.typing import NDArray
from peers import (
    ROUTE,
    TEXT_CONTENDERS,
    PeerMissingError,
    TextContender,
    numpy_win_rate,
    numpy_win_rates,
    routellm_win_rate,
    text_contender,
)
from readers import leave_out_a_byte, readers
from reference import TextReference, agreement, sigmoid
from workloads import (
    EMBEDDING_DIM,
    DataMissingError,
    MatrixFactorization,
    decision_threshold,
    example_prompts,
    matrix_factorization,
    natural_prompts,
    texts_of_length,
    unit_embeddings,
)

import routellm_fast as rf

MF_ONE: Final = "routellm_fast.win_rate_from_embedding"
MF_MANY: Final = "routellm_fast.win_rates_from_embeddings"
MF_CACHED: Final = "routellm_fast.win_rate through CachedEmbedder"
MF_LOGITS: Final = "routellm_fast.model_logits"
NUMPY: Final = "numpy"
ROUTELLM: Final = "RouteLLM"
ROUTELLM_ARRAY: Final = "RouteLLM, spared the list"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    prompts: int | None
    rounds: int
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    embeddings: int
    routellm_rows: int
    interpreters: int


FULL: Final = Effort(
    prompts=None,
    rounds=11,
    lengths=(16, 64, 256, 1_000, 4_000, 16_000, 1_000_000, 10_000_000),
    batch_sizes=(1, 4, 16, 64, 256, 1024),
    embeddings=10_000,
    routellm_rows=200,
    interpreters=11,
)
QUICK: Final = Effort(
    prompts=128,
    rounds=2,
    lengths=(16, 1_000, 1_000_000),
    batch_sizes=(1, 64),
    embeddings=1_000,
    routellm_rows=20,
    interpreters=2,
)


class TextBench:
    """The shipped router, its reference and its peers."""

    def __init__(self, folder: Path) -> None:
        """Load all; peers that are not installed stand in `missing` with the reason."""
        self.router = rf.load_router()
        self.threshold = decision_threshold(self.router)
        self.missing: dict[str, str] = {}
        try:
            self.reference: TextReference | None = TextReference(self.router, folder / "router")
        except ImportError as error:
            self.reference = None
            self.missing["reference path"] = f"needs tokenizers ({error.name} is not installed)"
        self.contenders: dict[str, TextContender] = {}
        for name in TEXT_CONTENDERS:
            try:
                self.contenders[name] = text_contender(name, self.router, self.threshold, self.reference)
            except PeerMissingError as error:
                self.missing[name] = str(error)
        try:
            self.prompts, self.source = natural_prompts(), "natural prompts"
        except DataMissingError as error:
            self.prompts, self.source = example_prompts(), "examples/prompts.txt"
            self.missing["natural prompts"] = str(error)

    def describe(self) -> dict[str, Any]:
        """Say which router this is, with what its makers measured of its quality."""
        embedder = self.router.embedder
        return {
            "kind": self.router.kind,
            "model_pair": list(self.router.model_pair),
            "embedder": embedder.name,
            "dim": embedder.dim,
            "surface_features": list(getattr(embedder, "surface_features", ())),
            "fingerprint": embedder.fingerprint,
            "apgr": find_apgr(self.router.provenance),
        }

    def one_by_one(self, effort: Effort) -> dict[str, Any]:
        """Time each prompt on its own: p50 to p99 over prompts, where a prompt's figure is its median over rounds."""
        prompts = self.prompts[: effort.prompts]
        # The file is sorted by source; traffic is not, and neighbours that are alike would share cached words.
        order = np.random.default_rng(0).permutation(len(prompts))
        shuffled = time_items(self._each(), [prompts[i] for i in order], rounds=effort.rounds)
        times = {name: found[:, np.argsort(order)] for name, found in shuffled.items()}
        is_ascii = np.array([prompt.isascii() for prompt in prompts])
        return {
            "prompts": len(prompts),
            "source": self.source,
            "rounds": effort.rounds,
            "clock_ns": clock_ns(),
            "characters": _quantiles(np.array([len(prompt) for prompt in prompts])),
            "contenders": {
                name: {
                    **_latencies(np.median(found, axis=0)),
                    "single_call_p99_us": float(np.percentile(found, 99)) / 1e3,
                    "single_call_p999_us": float(np.percentile(found, 99.9)) / 1e3,
                    "ascii_p50_us": _median_us(np.median(found, axis=0)[is_ascii]),
                    "non_ascii_p50_us": _median_us(np.median(found, axis=0)[~is_ascii]),
                }
                for name, found in times.items()
            },
            "ascii_prompts": int(is_ascii.sum()),
            "ratio_to_route": _ratios(times, ROUTE),
            "raw_ns_per_prompt": {name: np.median(found, axis=0).astype(int).tolist() for name, found in times.items()},
        }

    def throughput(self, effort: Effort, batch: int = 256) -> dict[str, Any]:
        """Time all prompts in batches, on one core."""
        prompts = _shuffled(self.prompts[: effort.prompts])
        batches = [prompts[begin : begin + batch] for begin in range(0, len(prompts), batch)]
        blocks = {name: looped(contender.many, batches) for name, contender in self.contenders.items()}
        times = time_blocks(blocks, rounds=max(2, effort.rounds // 2), calls=len(prompts))
        return {
            "batch": batch,
            "prompts_per_s": {name: 1e9 / float(np.median(found)) for name, found in times.items()},
            "ratio_to_route": _ratios(times, ROUTE),
        }

    def by_length(self, effort: Effort) -> list[dict[str, Any]]:
        """Time texts of the same number of ASCII characters."""
        rows = []
        for length in effort.lengths:
            count = 32 if length <= 16_000 else 4 if length <= 1_000_000 else 2
            texts = texts_of_length(length, count, self.prompts)
            times = time_items(self._each(), texts, rounds=effort.rounds)
            rows.append({"characters": length, "texts": count} | _medians(times, ROUTE))
        return rows

    def by_batch(self, effort: Effort) -> list[dict[str, Any]]:
        """Time the same prompts in batches of every size; figures are microseconds a prompt."""
        sample = _shuffled(self.prompts)[: max(effort.batch_sizes)]
        total = len(sample)
        rows = []
        for size in effort.batch_sizes:
            batches = [sample[begin : begin + size] for begin in range(0, total, size)]
            blocks = {name: looped(contender.many, batches) for name, contender in self.contenders.items()}
            times = time_blocks(blocks, rounds=max(2, effort.rounds // 2), calls=total)
            rows.append({"batch": size} | _medians(times, ROUTE))
        return rows

    def quality(self, effort: Effort) -> dict[str, Any] | None:
        """Hold every decision against the float64 path, one call each and batched."""
        if self.reference is None:
            return None
        prompts = self.prompts[: effort.prompts]
        expected = self.reference.win_rates(prompts)
        decisions = [self.router.route(prompt, self.threshold) for prompt in prompts]
        if decisions != self.router.route_batch(prompts, self.threshold):
            message = "route_batch decides differently from route: its figures would be worthless"
            raise AssertionError(message)
        win_rates = np.array([decision.win_rate for decision in decisions])
        is_strong = np.array([decision.is_strong for decision in decisions])
        return agreement(win_rates, is_strong, expected, self.threshold)

    def _each(self) -> dict[str, Callable[[str], Any]]:
        return {name: contender.one for name, contender in self.contenders.items()}


class EmbeddingBench:
    """mf on embeddings that are at hand."""

    def __init__(self, folder: Path, effort: Effort) -> None:
        """Make weights of RouteLLM's shape and unit embeddings."""
        self.effort = effort
        self.mf = matrix_factorization(folder)
        self.embeddings = unit_embeddings(effort.embeddings)
        leave_out_a_byte(self.embeddings)
        self.missing: dict[str, str] = {}
        self.routellm: dict[str, Callable[[int], float]] = {}
        sample = self.embeddings[: effort.routellm_rows]
        for name, answers in ((ROUTELLM, sample.tolist()), (ROUTELLM_ARRAY, list(sample))):
            try:
                self.routellm[name] = routellm_win_rate(self.mf, answers)
            except PeerMissingError as error:
                self.missing[name] = str(error)

    def one(self) -> dict[str, Any]:
        """Time one embedding a call, on embeddings in turn (in L2 or L3) and on one and the same (in L1)."""
        router, rows = self.mf.router, list(self.embeddings[: self.effort.routellm_rows])
        calls: dict[str, Callable[[NDArray[np.float32]], Any]] = {
            MF_ONE: router.win_rate_from_embedding,
            NUMPY: numpy_win_rate(self.mf),
        }
        matrices = [self.embeddings[i : i + 1] for i in range(len(rows))]
        keys, cached = _cached_router(self.mf, rows)
        indices = range(len(rows))
        in_turn = time_blocks(
            {name: looped(call, rows) for name, call in calls.items()}
            | {
                MF_MANY: looped(router.win_rates_from_embeddings, matrices),
                MF_CACHED: looped(cached.win_rate, keys),
            }
            | {name: looped(call, indices) for name, call in self.routellm.items()},
            rounds=self.effort.rounds * 9,
            calls=len(rows),
        )
        same = time_blocks(
            {name: looped(call, rows[:1] * len(rows)) for name, call in calls.items()},
            rounds=self.effort.rounds * 9,
            calls=len(rows),
        )
        singles = time_items(calls, rows * 10, rounds=self.effort.rounds)
        return {
            "dim": EMBEDDING_DIM,
            "embeddings": len(rows),
            "clock_ns": clock_ns(),
            "us_a_call": {name: _median_us(found) for name, found in in_turn.items()},
            "us_a_call_same_embedding": {name: _median_us(found) for name, found in same.items()},
            "single_calls": {name: _latencies(found.ravel()) for name, found in singles.items()},
            "ratio_to_ours": _ratios(in_turn, MF_ONE),
        }

    def many(self) -> dict[str, Any]:
        """Time one large batch beside bare reads of the same bytes."""
        router, array = self.mf.router, self.embeddings
        score, peer = router.win_rates_from_embeddings, numpy_win_rates(self.mf)
        bare = readers(array)
        rounds = self.effort.rounds * 3
        times = time_blocks(
            {MF_MANY: lambda: score(array), NUMPY: lambda: peer(array)} | bare, rounds=rounds, calls=len(array)
        )
        sample = time_blocks(
            {
                name: looped(call, range(self.effort.routellm_rows))
                for name, call in self.routellm.items()
                if name == ROUTELLM
            }
            | {MF_MANY: lambda: score(array[: self.effort.routellm_rows])},
            rounds=self.effort.rounds,
            calls=self.effort.routellm_rows,
        )
        medians = {name: float(np.median(found)) for name, found in times.items()}
        yardstick = min(bare, key=medians.__getitem__)
        gigabytes = {name: array[0].nbytes / value for name, value in medians.items()}
        return {
            "shape": list(array.shape),
            "bytes": array.nbytes,
            "rounds": rounds,
            "us_a_row": {name: value / 1e3 for name, value in medians.items()},
            "gb_per_s": gigabytes,
            "readers": sorted(bare, key=medians.__getitem__),
            "yardstick": yardstick,
            # Turn by turn, so that what else the machine did meets both.
            "share_of_yardstick": float(np.median(times[yardstick] / times[MF_MANY])),
            "share_of_each_reader": {name: float(np.median(times[name] / times[MF_MANY])) for name in bare},
            "ratio_to_ours": _ratios({name: times[name] for name in (MF_MANY, NUMPY)}, MF_MANY),
            "sampled_rows": self.effort.routellm_rows,
            "ratio_to_ours_on_sample": _ratios(sample, MF_MANY),
            "us_a_row_on_sample": {name: _median_us(found) for name, found in sample.items()},
        }

    def all_models(self) -> list[dict[str, Any]]:
        """Time every model's logit at once."""
        router, rows = self.mf.router, self.mf.rows.astype(np.float32).T.copy()
        found = []
        for count in (1, min(1_000, len(self.embeddings))):
            batches = [self.embeddings[i : i + count] for i in range(0, max(count, 200), count)]
            times = time_blocks(
                {
                    MF_LOGITS: looped(router.model_logits, batches),
                    NUMPY: looped(lambda batch: batch @ rows, batches),
                },
                rounds=self.effort.rounds * 3,
                calls=len(batches),
            )
            found.append({"embeddings": count, "models": len(router.model_names)} | _medians(times, MF_LOGITS))
        return found

    def quality(self) -> dict[str, Any]:
        """Hold win rates and logits against float64, and against RouteLLM's own."""
        router, wide = self.mf.router, self.embeddings.astype(np.float64)
        win_rates = router.win_rates_from_embeddings(self.embeddings)
        expected = sigmoid(wide @ self.mf.vector)
        logits = router.model_logits(self.embeddings[:1000])
        found = {
            "rows": len(win_rates),
            "max_win_rate_difference": float(np.abs(win_rates - expected).max()),
            "max_logit_difference": float(np.abs(logits - wide[:1000] @ self.mf.rows.T).max()),
        }
        if ROUTELLM in self.routellm:
            theirs = [self.routellm[ROUTELLM](index) for index in range(self.effort.routellm_rows)]
            found["max_difference_to_routellm"] = float(np.abs(win_rates[: len(theirs)] - theirs).max())
        return found


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


def measure(effort: Effort, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything. `say` is told what comes next."""
    report: dict[str, Any] = {"machine": machine.describe(), "loads": {}, "missing": {}}

    @contextmanager
    def section(name: str) -> Any:
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
        # The texts are gone before the memory-bound part, and RouteLLM with torch comes last.
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
    # Described again: by now every BLAS is loaded.
    report["machine"]["blas"] = machine.describe()["blas"]
    return report


def find_apgr(provenance: Any) -> dict[str, float]:
    """Return every APGR that stands in a router's provenance, by its path."""
    found: dict[str, float] = {}

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, str(key)))
        elif isinstance(value, (int, float)) and any("apgr" in part.lower() for part in path):
            found[" ".join(part for part in path if part.lower() not in ("metrics", "evaluation"))] = float(value)

    walk(dict(provenance), ())
    return found


def _cached_router(mf: MatrixFactorization, rows: Sequence[NDArray[np.float32]]) -> tuple[list[str], rf.Router]:
    keys = [f"prompt {index}: what is the capital of Australia?" for index in range(len(rows))]
    vectors = dict(zip(keys, rows, strict=True))
    embedder = rf.FunctionEmbedder(
        lambda texts: np.stack([vectors[text] for text in texts]),
        dim=EMBEDDING_DIM,
        name="function:benchmark",
    )
    cached = rf.CachedEmbedder(embedder, capacity_bytes=64 << 20)
    return keys, type(mf.router)(
        mf.router.model_names, mf.P, mf.W, mf.w, model_pair=mf.router.model_pair, embedder=cached
    )


def _shuffled(prompts: Sequence[str]) -> list[str]:
    return [prompts[i] for i in np.random.default_rng(0).permutation(len(prompts))]


def _latencies(times_ns: NDArray[Any]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(times_ns, (50, 95, 99)) / 1e3
    return {
        "p50_us": float(p50),
        "p95_us": float(p95),
        "p99_us": float(p99),
        "max_us": float(times_ns.max()) / 1e3,
        "mean_us": float(times_ns.mean()) / 1e3,
        "per_s": 1e9 / float(times_ns.mean()),
    }


def _median_us(times_ns: NDArray[Any]) -> float | None:
    return float(np.median(times_ns)) / 1e3 if times_ns.size else None


def _medians(times: dict[str, NDArray[Any]], ours: str) -> dict[str, Any]:
    return {"us": {name: _median_us(found) for name, found in times.items()}, "ratio_to_ours": _ratios(times, ours)}


def _ratios(times: dict[str, NDArray[Any]], ours: str) -> dict[str, dict[str, float]]:
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


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(values, q)) for q in (0, 5, 50, 95, 99, 100)}
