from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.harness.bare_reads import MEMCHR, leave_out_a_byte, readers
from benchmarks.harness.figures import sigmoid
from benchmarks.harness.suites import present_or_skip
from benchmarks.mf.peers import numpy_win_rate, numpy_win_rates, routellm_win_rate
from benchmarks.mf.workload import EMBEDDING_DIM, MatrixFactorization, matrix_factorization, unit_embeddings

ONE = 200


@pytest.fixture(scope="module")
def mf(tmp_path_factory: pytest.TempPathFactory) -> MatrixFactorization:
    return matrix_factorization(tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.parametrize("name", ["routellm_fast", "routellm_fast batch of one", "numpy", "RouteLLM"])
@pytest.mark.benchmark(group="mf on an embedding of 1,536 dimensions, one a call")
def bench_one(benchmark: Any, mf: MatrixFactorization, name: str) -> None:
    rows = list(unit_embeddings(ONE))
    items: list[Any] = rows
    if name == "routellm_fast":
        call: Any = mf.router.win_rate_from_embedding
    elif name == "routellm_fast batch of one":
        call, items = mf.router.win_rates_from_embeddings, [row[None] for row in rows]
    elif name == "numpy":
        call = numpy_win_rate(mf)
    else:
        call = present_or_skip(lambda: routellm_win_rate(mf, [row.tolist() for row in rows]))
        items = list(range(ONE))
    benchmark.extra_info |= {"contender": name, "calls": ONE}
    found = benchmark(lambda: [call(item) for item in items])
    expected = sigmoid(np.stack(rows).astype(np.float64) @ mf.vector)
    np.testing.assert_allclose(np.array(found).reshape(-1), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["routellm_fast", "numpy"])
@pytest.mark.benchmark(group="mf on a batch of 10,000 x 1,536 float32")
def bench_batch(benchmark: Any, mf: MatrixFactorization, name: str) -> None:
    embeddings = unit_embeddings(10_000)
    call = mf.router.win_rates_from_embeddings if name == "routellm_fast" else numpy_win_rates(mf)
    benchmark.extra_info |= {"contender": name, "bytes": embeddings.nbytes}
    found = benchmark(call, embeddings)
    expected = sigmoid(embeddings.astype(np.float64) @ mf.vector)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(readers(np.ones((2, 2), dtype=np.float32))))
@pytest.mark.benchmark(group="mf on a batch of 10,000 x 1,536 float32")
def bench_bare_read(benchmark: Any, name: str) -> None:
    embeddings = unit_embeddings(10_000)
    leave_out_a_byte(embeddings)
    benchmark.extra_info |= {"contender": name, "bytes": embeddings.nbytes}
    found = benchmark(readers(embeddings)[name])
    if name == MEMCHR:
        assert found is None
    elif name == "BLAS dot with itself":
        np.testing.assert_allclose(found, np.sum(embeddings.astype(np.float64) ** 2), rtol=1e-3)
    elif name == "numpy max of float32":
        assert found == embeddings.max(axis=1).max()


@pytest.mark.parametrize("count", [1, 1_000])
@pytest.mark.parametrize("name", ["routellm_fast", "numpy"])
@pytest.mark.benchmark(group="mf, logits of all 64 models")
def bench_all_models(benchmark: Any, mf: MatrixFactorization, name: str, count: int) -> None:
    embeddings = unit_embeddings(count)
    rows = mf.rows.astype(np.float32).T.copy()
    call = mf.router.model_logits if name == "routellm_fast" else lambda batch: batch @ rows
    benchmark.extra_info |= {"contender": name, "embeddings": count, "dim": EMBEDDING_DIM}
    found = benchmark(call, embeddings)
    expected = embeddings.astype(np.float64) @ mf.rows.T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
