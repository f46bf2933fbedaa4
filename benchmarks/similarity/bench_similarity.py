from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import routellm_fast as rf
from benchmarks.harness.names import NUMPY, ROUTELLM
from benchmarks.harness.suites import present_or_skip
from benchmarks.similarity.names import FAISS, SW_FLOAT32, SW_NAMES, SW_PEERS, USEARCH_INT8
from benchmarks.similarity.peers import NEAREST, SimilarityPeer, routellm_similarity, similarity_peer
from benchmarks.similarity.workload import openai_like_battles, shipped_token_embedder, text_battles
from routellm_fast.routers import SimilarityWeightedRouter

BATTLES, QUERIES, BATCH = 4_000, 16, 64
ROUTELLM_QUERIES = 2
TEXTS, PROMPTS = 2_000, 64


class Contenders:
    """Routers of every precision and peers on the same battles, and the truth about them."""

    def __init__(self) -> None:
        self.task = openai_like_battles(BATTLES, BATCH)
        self.routers = self.task.routers()
        self.tiers = dict(self.routers[SW_FLOAT32].tiers)
        self.expected = self.task.expected(self.tiers, self.task.queries)

    def peer(self, name: str) -> SimilarityPeer:
        """Build a peer, or skip."""
        return present_or_skip(lambda: similarity_peer(name, self.task, self.task.cells(self.tiers)))

    def check(self, name: str, found: Any) -> None:
        """Assert that answers to the first queries are right: win rates, or the battles that a scan found."""
        if name in SW_PEERS and name != NUMPY:
            self._check_scan(name, list(found))
            return
        bound = 1e-6
        if name in self.routers:
            bound = max(bound, self.routers[name].error_bound)
        elif name == ROUTELLM:
            bound = 1e-3  # its solver stops before the maximum
        np.testing.assert_allclose(found, self.expected[: len(found)], rtol=0, atol=bound)

    def _check_scan(self, name: str, found: list[NDArray[Any]]) -> None:
        queries = self.task.queries[: len(found)].astype(np.float64)
        similarities = queries @ self.task.embeddings.T.astype(np.float64)
        theirs = np.take_along_axis(similarities, np.array(found, dtype=np.int64), axis=1)
        best = -np.sort(-similarities, axis=1)[:, :NEAREST]
        # Codes of eight bits rank roughly.
        np.testing.assert_allclose(theirs, best, rtol=0, atol=0.02 if name == USEARCH_INT8 else 1e-5)


@pytest.fixture(scope="module")
def contenders() -> Contenders:
    return Contenders()


@pytest.mark.parametrize("name", [*SW_NAMES.values(), *SW_PEERS, ROUTELLM])
@pytest.mark.benchmark(group="sw_ranking, 4,000 battles x 1,536, one query a call")
def bench_one(benchmark: Any, contenders: Contenders, name: str) -> None:
    queries = list(contenders.task.queries[: ROUTELLM_QUERIES if name == ROUTELLM else QUERIES])
    if name in contenders.routers:
        call: Any = contenders.routers[name].win_rate_from_embedding
    elif name == ROUTELLM:
        call = present_or_skip(lambda: routellm_similarity(contenders.task, contenders.tiers))
    else:
        call = contenders.peer(name).one
    benchmark.extra_info |= {"contender": name, "calls": len(queries), "battles": BATTLES}
    contenders.check(name, benchmark(lambda: [call(query) for query in queries]))


@pytest.mark.parametrize("name", [*SW_NAMES.values(), NUMPY, FAISS])
@pytest.mark.benchmark(group="sw_ranking, 4,000 battles x 1,536, a batch of 64")
def bench_batch(benchmark: Any, contenders: Contenders, name: str) -> None:
    benchmark.extra_info |= {"contender": name, "queries": BATCH, "battles": BATTLES}
    queries = contenders.task.queries
    if name in contenders.routers:
        router = contenders.routers[name]
        found = benchmark(router.win_rates_from_embeddings, queries)
        singles = [router.win_rate_from_embedding(query) for query in queries]
        np.testing.assert_array_equal(found, np.array(singles, dtype=np.float32))
    else:
        found = benchmark(contenders.peer(name).many, queries, 1)
    contenders.check(name, found)


@pytest.fixture(scope="module")
def text_routers() -> tuple[dict[str, SimilarityWeightedRouter], list[str]]:
    embedder = shipped_token_embedder()
    battles, prompts, _ = text_battles(embedder, TEXTS, PROMPTS)
    return battles.routers(embedder=embedder), prompts


@pytest.mark.parametrize("name", list(SW_NAMES.values()))
@pytest.mark.benchmark(group="sw_ranking, 2,000 battles, text to decision")
def bench_text(benchmark: Any, text_routers: tuple[dict[str, SimilarityWeightedRouter], list[str]], name: str) -> None:
    routers, prompts = text_routers
    exact = routers[SW_FLOAT32].win_rates(prompts)
    threshold = float(np.median(exact))
    benchmark.extra_info |= {"contender": name, "prompts": len(prompts)}
    route = routers[name].route
    decisions: list[rf.Decision] = benchmark(lambda: [route(prompt, threshold) for prompt in prompts])
    assert [decision.is_strong for decision in decisions] == list(exact.astype(np.float64) >= threshold)
