"""A process that builds sw_ranking routers of one size, or loads one, and prints what they cost as JSON.

Precisions come one after the other, each in turn with bare reads of as many bytes as it reads. At a million battles the
bank has six gigabytes, and the array that it is built from has as many.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

import routellm_fast as rf
from benchmarks.harness.bare_reads import leave_out_a_byte, readers
from benchmarks.harness.figures import latencies
from benchmarks.harness.turns import ignoring_item, time_items
from benchmarks.similarity.names import SW_NAMES
from benchmarks.similarity.workload import RankingTask, describe, in_precision, openai_like_battles
from routellm_fast.routers import SimilarityWeightedRouter
from routellm_fast.threads import available_threads

# Of the queries that every precision answers, so many are computed in float64 too.
QUERIES_IN_FLOAT64: Final = 32
# What all calls of one contender read together, about: a second's worth.
BYTES_TO_READ: Final = 30_000_000_000
FEWEST_CALLS: Final = 16


def build(count: int, queries: int, folder: Path | None) -> list[dict[str, Any]]:
    """Build, time and save a router of each precision. The compressed ones share the float32 one's bank."""
    battles = openai_like_battles(count, queries, prepare=leave_out_a_byte)
    _release()
    before, start = _memory("RssAnon"), time.perf_counter()
    exact = battles.router(threads=available_threads())
    exact_s = time.perf_counter() - start
    bank_bytes = exact.row_count * battles.embeddings[0].nbytes
    win_rates = exact.win_rates_from_embeddings(battles.queries)
    expected = battles.expected(exact.tiers, battles.queries[:QUERIES_IN_FLOAT64])
    found: list[dict[str, Any]] = []
    for precision in SW_NAMES:
        start = time.perf_counter()
        router = in_precision(exact, precision)
        build_s = exact_s + time.perf_counter() - start
        _release()
        entry = describe(router) | {"precision": precision, "build_s": build_s, "bank_bytes": bank_bytes}
        entry["private_bytes"] = _memory("RssAnon") - before
        entry |= _time(router, battles)
        theirs = router.win_rates_from_embeddings(battles.queries)
        entry |= {
            "queries": len(theirs),
            "max_difference_to_float32": float(np.abs(theirs - win_rates).max()),
            "queries_in_float64": len(expected),
            "max_difference_to_float64": float(np.abs(theirs[: len(expected)] - expected).max()),
        }
        if folder is not None:
            router.save(folder / precision)
        found.append(entry)
        del router
    return found


def load(path: Path) -> dict[str, Any]:
    """Load a router directory, whose files the operating system has in memory, and score a few embeddings."""
    private, shared, start = _memory("RssAnon"), _memory("RssFile"), time.perf_counter()
    router = rf.load_router(path)
    seconds = time.perf_counter() - start
    assert isinstance(router, SimilarityWeightedRouter)
    for query in np.random.default_rng(0).standard_normal((16, router.dim), dtype=np.float32):
        router.win_rate_from_embedding(query)
    return {
        "load_ms": seconds * 1e3,
        "private_bytes": _memory("RssAnon") - private,
        # Mapped files: one copy for all processes.
        "shared_bytes": _memory("RssFile") - shared,
        "directory_bytes": sum(file.stat().st_size for file in path.iterdir()),
    }


def _time(router: SimilarityWeightedRouter, battles: RankingTask) -> dict[str, Any]:
    """Time single queries in turn with bare reads of as many bytes as a query reads."""
    flat = battles.embeddings.reshape(-1)
    read = router.bytes_per_query
    bare = {name: ignoring_item(call) for name, call in readers(flat[: read // 8 * 2]).items()}
    asked = list(battles.queries[: max(FEWEST_CALLS, BYTES_TO_READ // read)])
    times = time_items({"router": router.win_rate_from_embedding} | bare, asked, rounds=1, stretch=16, lead_in=1)
    yardstick = min(bare, key=lambda name: float(np.median(times[name])))
    found = latencies(times["router"].ravel())
    return found | {
        "queries_timed": len(asked),
        "bytes_per_query": read,
        "gb_per_s": read / found["p50_us"] / 1e3,
        "yardstick": yardstick,
        "times_yardstick": float(np.median(times["router"] / times[yardstick])),
    }


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _release() -> None:
    """Give freed memory back, so that it does not count as the next router's."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "build":
        count, queries, *folder = arguments
        found: Any = build(int(count), int(queries), Path(folder[0]) if folder else None)
    else:
        found = load(Path(arguments[0]))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
