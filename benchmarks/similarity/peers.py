"""sw_ranking's other contenders: win rates as others compute them, and the scan alone as vector search does it.

Search libraries return the ten nearest battles, not what is done with all similarities: they read the same bytes and do
less. Each gets the layout that suits it before the clock runs.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.names import NUMPY
from benchmarks.harness.peers import import_routellm, needing
from benchmarks.similarity.collapsed import Cells
from benchmarks.similarity.names import FAISS, USEARCH, USEARCH_INT8
from benchmarks.similarity.workload import RankingTask

NEAREST: Final = 10
_LN10: Final = float(np.log(10))
# Queries that numpy multiplies at a time. Fewer make OpenBLAS slower by more than the smaller arrays save.
_STRIPE: Final = 256
# Rows that are encoded at a time: bounds what that takes besides the codes.
_ROWS_ENCODED: Final = 8_192


@dataclass(frozen=True, slots=True)
class SimilarityPeer:
    """One query a call, and a batch.

    Attributes:
        one: Takes (dim,) float32.
        many: Takes (n, dim) float32 and how many threads to use.
    """

    one: Callable[[NDArray[np.float32]], Any]
    many: Callable[[NDArray[np.float32], int], Any]


def similarity_peer(name: str, battles: RankingTask, cells: Cells) -> SimilarityPeer:
    """Build one of names.SW_PEERS. Raises PeerMissingError."""
    if name == NUMPY:
        return _numpy(battles, cells)
    if name == FAISS:
        return _faiss(battles.embeddings)
    if name == USEARCH:
        return _usearch(battles.embeddings, lambda queries: queries)
    assert name == USEARCH_INT8
    return _usearch(_codes(battles.embeddings), _codes)


def _numpy(battles: RankingTask, cells: Cells) -> SimilarityPeer:
    """Write the collapsed refit as well as numpy allows: float32, unit rows in order of cells, no new large arrays."""
    bank = battles.embeddings[cells.order]
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    transposed = bank.T
    similarities = np.empty((_STRIPE, len(bank)), dtype=np.float32)

    def finish(found: NDArray[np.float32]) -> NDArray[np.float64]:
        # The query's norm cancels in s / max, and the factor 10 of all weights in the fit.
        found *= _LN10 / found.max(axis=1, keepdims=True)
        np.exp(found, out=found)
        return cells.win_rates(np.add.reduceat(found, cells.starts, axis=1))

    def one(query: NDArray[np.float32]) -> float:
        found = similarities[:1]
        np.dot(bank, query, out=found[0])
        return float(finish(found)[0])

    def many(queries: NDArray[np.float32], threads: int) -> NDArray[np.float64]:
        win_rates = np.empty(len(queries))
        with blas_threads(threads):
            for begin in range(0, len(queries), _STRIPE):
                stripe = queries[begin : begin + _STRIPE]
                found = similarities[: len(stripe)]
                np.matmul(stripe, transposed, out=found)
                win_rates[begin : begin + len(stripe)] = finish(found)
        return win_rates

    return SimilarityPeer(one, many)


def _faiss(embeddings: NDArray[np.float32]) -> SimilarityPeer:
    with needing("faiss-cpu"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SWIG's types, on newer Pythons
        import faiss
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(embeddings.shape[1])
    index.add(embeddings)

    def many(queries: NDArray[np.float32], threads: int) -> Any:
        faiss.omp_set_num_threads(threads)
        found = index.search(queries, NEAREST)
        faiss.omp_set_num_threads(1)
        return found[1]

    return SimilarityPeer(lambda query: index.search(query[None], NEAREST)[1][0], many)


def _usearch(bank: NDArray[Any], encode: Callable[[NDArray[np.float32]], NDArray[Any]]) -> SimilarityPeer:
    with needing("usearch"):
        from usearch.index import MetricKind, search

    def many(queries: NDArray[np.float32], threads: int) -> Any:
        return search(bank, encode(queries), NEAREST, metric=MetricKind.IP, exact=True, threads=threads).keys

    return SimilarityPeer(lambda query: many(query, 1), many)


def _codes(rows: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return int8 codes with one scale for all rows, which leaves their order by inner product as it is."""
    scale = np.float32(127 / np.abs(rows).max())
    codes = np.empty(rows.shape, dtype=np.int8)
    for begin in range(0, len(rows), _ROWS_ENCODED):
        codes[begin : begin + _ROWS_ENCODED] = np.rint(rows[begin : begin + _ROWS_ENCODED] * scale)
    return codes


def routellm_similarity(battles: RankingTask, tiers: dict[str, int]) -> Callable[[NDArray[np.float32]], float]:
    """Return RouteLLM's win rate of one embedding: its refit, and its similarities on its float64 bank.

    Raises:
        PeerMissingError: routellm or what it requires is not installed.
    """
    module = import_routellm("routers.similarity_weighted.utils")
    pandas = import_pandas()
    frame = pandas.DataFrame(
        {
            "model_a": [tiers[name] for name in battles.model_a],
            "model_b": [tiers[name] for name in battles.model_b],
            "winner": battles.winner,
        }
    )
    bank = battles.embeddings.astype(np.float64)
    strong, weak = tiers[battles.strong], tiers[battles.weak]

    def win_rate(query: NDArray[np.float32]) -> float:
        wide = query.astype(np.float64)
        cosines = np.dot(bank, wide) / (np.linalg.norm(bank, axis=1) * np.linalg.norm(wide))
        weights = 10 * 10 ** (cosines / np.max(cosines))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, of penalty=None
            ratings = module.compute_elo_mle_with_tie(frame, sample_weight=weights)
        return float(1 - 1 / (1 + 10 ** ((ratings[strong] - ratings[weak]) / 400)))

    return win_rate


def import_pandas() -> Any:
    """Import pandas, which RouteLLM requires."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas
    return pandas


@contextmanager
def blas_threads(threads: int) -> Iterator[None]:
    """Let numpy's BLAS use so many threads; without threadpoolctl it stays with what it has."""
    controller = _thread_controller()
    if controller is None:
        yield
        return
    with controller.limit(limits=threads, user_api="blas"):
        yield


@functools.cache
def _thread_controller() -> Any:
    # Once: it looks through all libraries of the process, which takes longer than a small batch.
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
