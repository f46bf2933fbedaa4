from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from names import FAISS, NUMPY, ROUTELLM, SW_FLOAT32, SW_NAMES, SW_PEERS, USEARCH_INT8
from numpy.typing import NDArray
from peers import PeerMissingError
from peers_similarity import NEAREST, routellm_similarity, similarity_peer
from workloads_similarity import Battles, openai_like_battles, shipped_token_embedder, text_battles

import routellm_fast as rf
from routellm_fast.routers import SimilarityWeightedRouter

BATTLES, QUERIES, BATCH = 4_000, 16, 64
ROUTELLM_QUERIES = 2
TEXTS, PROMPTS = 2_000, 64


@pytest.fixture(scope="module")
def battles() -> Battles:
    return openai_like_battles(BATTLES, BATCH)


@pytest.fixture(scope="module")
def routers(battles: Battles) -> dict[str, SimilarityWeightedRouter]:
    return battles.routers()


@pytest.fixture(scope="module")
def tiers(routers: dict[str, SimilarityWeightedRouter]) -> dict[str, int]:
    return dict(routers[SW_FLOAT32].tiers)


@pytest.fixture(scope="module")
def expected(battles: Battles, tiers: dict[str, int]) -> NDArray[np.float64]:
    return battles.expected(tiers, battles.queries)


def check_scan(name: str, found: list[Any], battles: Battles) -> None:
    """Assert that a scan found the battles whose similarities are largest."""
    queries = battles.queries[: len(found)].astype(np.float64)
    similarities = queries @ battles.embeddings.T.astype(np.float64)
    theirs = np.take_along_axis(similarities, np.array(found, dtype=np.int64), axis=1)
    best = -np.sort(-similarities, axis=1)[:, :NEAREST]
    # Codes of eight bits rank roughly.
    np.testing.assert_allclose(theirs, best, rtol=0, atol=0.02 if name == USEARCH_INT8 else 1e-5)


def check_win_rates(name: str, found: Any, expected: NDArray[np.float64], router: Any) -> None:
    bound = 1e-6
    if name in SW_NAMES.values():
        bound = max(bound, router.error_bound)
    elif name == ROUTELLM:
        bound = 1e-3  # its solver stops before the maximum
    np.testing.assert_allclose(found, expected[: len(found)], rtol=0, atol=bound)


@pytest.mark.parametrize("name", [*SW_NAMES.values(), *SW_PEERS, ROUTELLM])
@pytest.mark.benchmark(group="sw_ranking, 4,000 battles x 1,536, one query a call")
def bench_one(
    benchmark: Any,
    battles: Battles,
    routers: dict[str, SimilarityWeightedRouter],
    tiers: dict[str, int],
    expected: NDArray[np.float64],
    name: str,
) -> None:
    queries = list(battles.queries[: ROUTELLM_QUERIES if name == ROUTELLM else QUERIES])
    try:
        if name in routers:
            call: Any = routers[name].win_rate_from_embedding
        elif name == ROUTELLM:
            call = routellm_similarity(battles, tiers)
        else:
            call = similarity_peer(name, battles, battles.cells(tiers)).one
    except PeerMissingError as error:
        pytest.skip(str(error))
    benchmark.extra_info |= {"contender": name, "calls": len(queries), "battles": BATTLES}
    found = benchmark(lambda: [call(query) for query in queries])
    if name in SW_PEERS and name != NUMPY:
        check_scan(name, found, battles)
    else:
        check_win_rates(name, found, expected, routers.get(name))


@pytest.mark.parametrize("name", [*SW_NAMES.values(), NUMPY, FAISS])
@pytest.mark.benchmark(group="sw_ranking, 4,000 battles x 1,536, a batch of 64")
def bench_batch(
    benchmark: Any,
    battles: Battles,
    routers: dict[str, SimilarityWeightedRouter],
    tiers: dict[str, int],
    expected: NDArray[np.float64],
    name: str,
) -> None:
    benchmark.extra_info |= {"contender": name, "queries": BATCH, "battles": BATTLES}
    if name in routers:
        found = benchmark(routers[name].win_rates_from_embeddings, battles.queries)
        singles = [routers[name].win_rate_from_embedding(query) for query in battles.queries]
        np.testing.assert_array_equal(found, np.array(singles, dtype=np.float32))
    else:
        try:
            peer = similarity_peer(name, battles, battles.cells(tiers))
        except PeerMissingError as error:
            pytest.skip(str(error))
        found = benchmark(peer.many, battles.queries, 1)
    if name == FAISS:
        check_scan(name, list(found), battles)
    else:
        check_win_rates(name, found, expected, routers.get(name))


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
