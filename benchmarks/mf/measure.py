"""mf on embeddings that are at hand, beside its peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import routellm_fast as rf
from benchmarks.harness.bare_reads import leave_out_a_byte, readers
from benchmarks.harness.figures import latencies, median_us, medians, ratios, sigmoid
from benchmarks.harness.names import NUMPY, ROUTELLM
from benchmarks.harness.peers import those_present
from benchmarks.harness.turns import clock_ns, looped, time_blocks, time_items
from benchmarks.mf.names import MF_CACHED, MF_LOGITS, MF_MANY, MF_ONE, ROUTELLM_ARRAY
from benchmarks.mf.peers import numpy_win_rate, numpy_win_rates, routellm_win_rate
from benchmarks.mf.workload import EMBEDDING_DIM, MatrixFactorization, matrix_factorization, unit_embeddings


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds, embeddings of a batch, and embeddings that RouteLLM scores one by one."""

    rounds: int
    embeddings: int
    routellm_rows: int


FULL: Final = Effort(rounds=11, embeddings=10_000, routellm_rows=200)
QUICK: Final = Effort(rounds=2, embeddings=1_000, routellm_rows=20)


class MfBench:
    """mf on embeddings that are at hand."""

    def __init__(self, folder: Path, effort: Effort) -> None:
        """Make weights of RouteLLM's shape and unit embeddings."""
        self.effort = effort
        self.mf = matrix_factorization(folder)
        self.embeddings = unit_embeddings(effort.embeddings)
        leave_out_a_byte(self.embeddings)
        sample = self.embeddings[: effort.routellm_rows]
        self.routellm, self.missing = those_present(
            {
                ROUTELLM: partial(routellm_win_rate, self.mf, sample.tolist()),
                ROUTELLM_ARRAY: partial(routellm_win_rate, self.mf, list(sample)),
            }
        )

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
            "us_a_call": {name: median_us(found) for name, found in in_turn.items()},
            "us_a_call_same_embedding": {name: median_us(found) for name, found in same.items()},
            "single_calls": {name: latencies(found.ravel()) for name, found in singles.items()},
            "ratio_to_ours": ratios(in_turn, MF_ONE),
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
            "ratio_to_ours": ratios({name: times[name] for name in (MF_MANY, NUMPY)}, MF_MANY),
            "sampled_rows": self.effort.routellm_rows,
            "ratio_to_ours_on_sample": ratios(sample, MF_MANY),
            "us_a_row_on_sample": {name: median_us(found) for name, found in sample.items()},
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
            found.append({"embeddings": count, "models": len(router.model_names)} | medians(times, MF_LOGITS))
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
