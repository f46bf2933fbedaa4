"""sw_ranking on embeddings that are at hand, beside its peers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.bare_reads import leave_out_a_byte, readers
from benchmarks.harness.figures import latencies, median_us, ratios
from benchmarks.harness.names import ROUTELLM
from benchmarks.harness.peers import those_present
from benchmarks.harness.turns import clock_ns, ignoring_item, time_blocks, time_items
from benchmarks.similarity.effort import Effort
from benchmarks.similarity.names import SW_COMPRESSED, SW_FLOAT32, SW_PEERS
from benchmarks.similarity.peers import routellm_similarity, similarity_peer
from benchmarks.similarity.workload import describe, openai_like_battles
from routellm_fast.threads import available_threads

Call = Callable[[NDArray[np.float32]], Any]

# Calls of one contender in a row: enough to be in its own stride, few enough for turns of milliseconds each.
STRETCH: Final = 8


class SimilarityBench:
    """Routers of every precision on the same battles, and everybody else on the same arrays."""

    def __init__(self, effort: Effort) -> None:
        """Make battles and build all contenders."""
        self.effort = effort
        self.battles = openai_like_battles(effort.battles, effort.queries, prepare=leave_out_a_byte)
        self.queries = list(self.battles.queries)
        self.routers = self.battles.routers()
        self.tiers = dict(self.routers[SW_FLOAT32].tiers)
        cells = self.battles.cells(self.tiers)
        self.peers, missing = those_present(
            {name: partial(similarity_peer, name, self.battles, cells) for name in SW_PEERS}
        )
        self.routellm, missing_routellm = those_present(
            {ROUTELLM: partial(routellm_similarity, self.battles, self.tiers)}
        )
        self.missing = missing | missing_routellm

    def describe(self) -> dict[str, Any]:
        """Return what each router says of itself."""
        return {name: describe(router) for name, router in self.routers.items()}

    def one(self) -> dict[str, Any]:
        """Time one query a call, all contenders in turn, beside bare reads of the float32 rows' bytes."""
        effort = self.effort
        ours: dict[str, Call] = {name: router.win_rate_from_embedding for name, router in self.routers.items()}
        rows = self.battles.embeddings[: self.routers[SW_FLOAT32].row_count]
        bare = {name: ignoring_item(read) for name, read in readers(rows).items()}
        peers: dict[str, Call] = {name: peer.one for name, peer in self.peers.items()}
        asked = self.queries[: effort.queries_in_turn]
        in_turn = time_items(ours | peers | bare, asked, rounds=1, stretch=STRETCH, lead_in=2)
        slow = time_items(
            ours | self.routellm, self.queries[: effort.queries_of_routellm], rounds=1, stretch=2, lead_in=1
        )
        # Distributions need many calls, and a compressed bank can afford them.
        compressed = {name: ours[name] for name in SW_COMPRESSED}
        many = time_items(compressed, self.queries, rounds=max(2, effort.rounds // 2), stretch=64, lead_in=STRETCH)
        yardstick = min(bare, key=lambda name: float(np.median(in_turn[name])))
        contenders = {name: found for name, found in in_turn.items() if name not in bare}
        return {
            "battles": len(self.battles.embeddings),
            "rows": len(rows),
            "dim": rows.shape[1],
            "bytes": rows.nbytes,
            "queries": {"in_turn": len(asked), "of_compressed": len(self.queries)},
            "clock_ns": clock_ns(),
            "in_turn": {name: latencies(found.ravel()) for name, found in contenders.items()},
            "single_calls": {name: latencies(found.ravel()) for name, found in many.items()},
            "median_of_rounds": {name: latencies(np.median(found, axis=0)) for name, found in many.items()},
            "bare_reads_us": {name: median_us(in_turn[name]) for name in bare},
            "yardstick": yardstick,
            "times_yardstick": float(np.median(in_turn[SW_FLOAT32] / in_turn[yardstick])),
            "ratio_to": {name: ratios(contenders, name) for name in ours},
            "routellm_us": {name: median_us(found) for name, found in slow.items() if name == ROUTELLM},
            "routellm_ratio_to": {name: ratios(slow, name)[ROUTELLM] for name in ours if self.routellm},
        }

    def batches(self) -> list[dict[str, Any]]:
        """Time one batch, with one thread each and with all cores each; figures are microseconds a query."""
        found = []
        for threads in sorted({1, available_threads()}):
            routers = self.routers if threads == 1 else self.battles.routers(threads=threads)
            queries = self.battles.queries[: self.effort.batch]
            blocks: dict[str, Callable[[], Any]] = {
                name: _batch(router.win_rates_from_embeddings, queries) for name, router in routers.items()
            } | {name: _batch(peer.many, queries, threads) for name, peer in self.peers.items()}
            times = time_blocks(blocks, rounds=max(2, self.effort.rounds // 3), calls=len(queries))
            found.append(
                {
                    "threads": threads,
                    "batch": len(queries),
                    "us": {name: median_us(taken) for name, taken in times.items()},
                    "ratio_to": {name: ratios(times, name) for name in routers},
                }
            )
        return found

    def quality(self) -> dict[str, Any]:
        """Hold win rates of every query against float64, batches against single calls, and all against RouteLLM's."""
        expected = self.battles.expected(self.tiers, self.battles.queries)
        exact = np.array([self.routers[SW_FLOAT32].win_rate_from_embedding(query) for query in self.queries])
        found: dict[str, Any] = {"queries": len(expected), "spread": float(np.std(expected)), "of": {}}
        asked = self.battles.queries[: self.effort.queries_of_routellm]
        theirs = np.array([call(query) for call in self.routellm.values() for query in asked])
        if len(theirs):
            same = self.battles.router(solver="routellm").exact_win_rates_from_embeddings(asked)
            found["max_difference_of_routellm_solver"] = float(np.abs(same - theirs).max())
        for name, router in self.routers.items():
            one = np.array([router.win_rate_from_embedding(query) for query in self.queries], dtype=np.float32)
            if not np.array_equal(one, router.win_rates_from_embeddings(self.battles.queries)):
                raise AssertionError(
                    f"{name} answers a batch differently from single calls: its figures would be worthless"
                )
            away = np.abs(one - expected)
            found["of"][name] = {
                "max_difference": float(away.max()),
                "p99_difference": float(np.percentile(away, 99)),
                "max_difference_to_float32": float(np.abs(one - exact).max()),
                "error_bound": router.error_bound,
            }
            if len(theirs):
                found["of"][name]["max_difference_to_routellm"] = float(np.abs(one[: len(theirs)] - theirs).max())
        return found


def _batch(many: Callable[..., Any], queries: NDArray[np.float32], *arguments: int) -> Callable[[], Any]:
    return lambda: many(queries, *arguments)
