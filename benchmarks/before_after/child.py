"""A process that runs one version of routellm_fast, asked over its standard input.

It imports nothing of this repository, so that the installed version is the one that runs. `PYTHON -I child.py`
answers each line of JSON with one. A group of cases is prepared once; then rounds of a case are timed as often as the
other side wants. Inputs lie in a folder, the same for both versions (inputs.py).

Only what both versions have is called: load_router, route, win_rates, win_rates_from_embeddings,
win_rate_from_embedding, from_routellm and SimilarityWeightedRouter.build.
"""

from __future__ import annotations

import gc
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import routellm_fast as rf
from routellm_fast import _core
from routellm_fast.routers import MatrixFactorizationRouter, SimilarityWeightedRouter

# Prompts of a batch of texts, and calls between two readings of the clock where a call takes less than a microsecond.
BATCH = 256
CALLS = 1_000
PRECISIONS = ("float32", "int8", "moments")


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        call: Takes an item.
        items: One reading of the clock each.
        per: What an item's time is divided by: prompts, rows or calls in it.
        stretch: Items of a turn.
        has_tail: Whether items are alike enough that a high percentile over them says something.
        digest: Digest of the win rates, which differs if one bit does.
    """

    call: Callable[[Any], Any]
    items: Sequence[Any]
    per: int
    stretch: int
    has_tail: bool
    digest: str


def text_cases(folder: Path) -> dict[str, Case]:
    """The mf router that ships, on texts."""
    router = rf.load_router("mf")
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    win_rates = router.win_rates(prompts)
    threshold = float(np.median(win_rates))
    batches = [prompts[begin : begin + BATCH] for begin in range(0, len(prompts) - BATCH + 1, BATCH)] or [prompts]
    return {
        "text → decision, one prompt a call": Case(
            lambda prompt: router.route(prompt, threshold), prompts, 1, BATCH, True, digest(win_rates)
        ),
        f"mf, texts → win rates, batches of {len(batches[0])}, a prompt": Case(
            router.win_rates, batches, len(batches[0]), len(batches), False, digest(win_rates)
        ),
    }


def mf_cases(folder: Path) -> dict[str, Case]:
    """An mf router of RouteLLM's shape, on embeddings of 1,536 dimensions."""
    router = MatrixFactorizationRouter.from_routellm(folder / "mf", embedder=None)
    embeddings = np.load(folder / "mf" / "embeddings.npy")
    win_rates = router.win_rates_from_embeddings(embeddings)
    one = router.win_rate_from_embedding
    rows = list(embeddings[:CALLS])

    def calls(items: list[Any]) -> None:
        for embedding in items:
            one(embedding)

    singles = np.array([one(row) for row in rows], dtype=np.float64)
    return {
        f"mf, {len(embeddings):,} embeddings → win rates, a row": Case(
            router.win_rates_from_embeddings, [embeddings], len(embeddings), 1, False, digest(win_rates)
        ),
        "mf, one cached embedding, a call": Case(calls, [rows], len(rows), 1, False, digest(singles)),
    }


def similarity_cases(folder: Path) -> dict[str, Case]:
    """sw_ranking in every precision, on embeddings of 1,536 dimensions."""
    battles = json.loads((folder / "battles.json").read_text(encoding="utf-8"))
    embeddings, queries = np.load(folder / "embeddings.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    count = len(embeddings)
    cases = {}
    for precision in PRECISIONS:
        router = SimilarityWeightedRouter.build(embeddings, **battles, embedder=None, precision=precision, threads=1)
        one = router.win_rate_from_embedding
        singles = np.array([one(query) for query in queries], dtype=np.float64)
        name = f"sw_ranking, {count:,} battles, {precision}"
        cases[f"{name}, one query a call"] = Case(one, list(queries), 1, 8, False, digest(singles))
        cases[f"{name}, a batch of {len(queries)}, a query"] = Case(
            router.win_rates_from_embeddings,
            [queries],
            len(queries),
            1,
            False,
            digest(router.win_rates_from_embeddings(queries)),
        )
    return cases


def digest(values: Any) -> str:
    """Return a short name of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def timed(case: Case, begin: int, end: int) -> list[float]:
    """Return nanoseconds of these items, each divided by `per`. What comes before them is called first, untimed."""
    clock, call = time.perf_counter_ns, case.call
    for index in range(begin - max(1, (end - begin) // 8), begin):
        call(case.items[index % len(case.items)])
    times = []
    for item in case.items[begin:end]:
        start = clock()
        call(item)
        times.append((clock() - start) / case.per)
    return times


def describe() -> dict[str, Any]:
    """Return what a report says of this side."""
    return {
        "version": rf.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "isa": _core.active_isa(),
        # Such an installation looks for its modules by a finder of its own, which slows imports.
        "is_editable": any("editable" in type(finder).__module__ for finder in sys.meta_path),
    }


def main() -> None:
    """Answer requests until there are no more."""
    kinds = {"text": text_cases, "mf": mf_cases, "similarity": similarity_cases}
    cases: dict[str, Case] = {}
    gc.disable()
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "prepare":
            cases = {}  # gives the memory of the group before back first
            gc.collect()
            cases = kinds[asked["kind"]](Path(asked["folder"]))
            answer: Any = {
                name: {"items": len(case.items), "stretch": case.stretch, "tail": case.has_tail, "digest": case.digest}
                for name, case in cases.items()
            }
        elif asked["do"] == "time":
            answer = timed(cases[asked["case"]], asked["begin"], asked["end"])
        else:
            answer = describe()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
