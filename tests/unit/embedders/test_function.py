from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.embedders import Embedder


def lengths(texts: list[str]) -> list[list[float]]:
    return [[len(text), 1.0] for text in texts]


def test_a_function_becomes_an_embedder() -> None:
    embedder = rf.FunctionEmbedder(lengths, dim=2, name="lengths")
    assert isinstance(embedder, Embedder)
    vectors = embedder.embed(("", "abc", "\ud800"))
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.tolist() == [[0, 1], [3, 1], [1, 1]]
    assert (embedder.name, embedder.dim) == ("lengths", 2)
    assert "lengths" in repr(embedder)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint32])
def test_any_real_dtype_and_layout_becomes_contiguous_float32(dtype: type) -> None:
    matrix = np.arange(12, dtype=dtype).reshape(4, 3).T
    vectors = rf.FunctionEmbedder(lambda texts: matrix, dim=4, name="m").embed(["a", "b", "c"])
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.array_equal(vectors, matrix)


def test_the_caller_owns_what_it_gets() -> None:
    kept = np.ones((1, 3), np.float32)
    embedder = rf.FunctionEmbedder(lambda texts: kept, dim=3, name="kept")
    embedder.embed(["a"])[:] = 7
    assert kept.tolist() == [[1, 1, 1]]


def test_no_texts_need_no_call() -> None:
    def fail(texts: list[str]) -> None:
        raise AssertionError

    embedder = rf.FunctionEmbedder(fail, dim=3, name="fail")
    assert embedder.embed([]).shape == (0, 3)
    assert asyncio.run(embedder.aembed([])).shape == (0, 3)


def test_aembed_runs_in_another_thread() -> None:
    threads: list[int] = []

    def note(texts: list[str]) -> np.ndarray:
        threads.append(threading.get_ident())
        return np.zeros((len(texts), 1))

    vectors = asyncio.run(rf.FunctionEmbedder(note, dim=1, name="note").aembed(["a", "b"]))
    assert vectors.shape == (2, 1)
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((2, 3)), r"float64 \(2, 3\): expected real numbers of shape \(1, 3\)"),
        (np.zeros((1, 2)), r"\(1, 2\)"),
        (np.zeros(3), r"\(3,\)"),
        (np.zeros((1, 3), complex), "complex"),
        (np.zeros((1, 3), bool), "bool"),
        ([["a", "b", "c"]], "<U1"),
        (None, "object"),
        ([[1.0, 2.0], [3.0]], "unequal"),
        ([[0.0, float("nan"), 0.0]], "nan in row 0, column 1"),
        ([[0.0, 0.0, 1e300]], "1e\\+300 in row 0, column 2"),
        ([[0.0, 0.0, -np.inf]], "-inf"),
    ],
)
def test_a_wrong_answer_is_refused(answer: object, message: str) -> None:
    embedder = rf.FunctionEmbedder(lambda texts: answer, dim=3, name="wrong")
    with pytest.raises(rf.InvalidEmbeddingError, match=message):
        embedder.embed(["a"])


def test_texts_are_checked_and_the_functions_own_errors_come_through() -> None:
    def fail(texts: list[str]) -> None:
        raise ConnectionError("no model server")

    embedder = rf.FunctionEmbedder(fail, dim=3, name="fail")
    with pytest.raises(ConnectionError, match="no model server"):
        embedder.embed(["a"])
    with pytest.raises(TypeError, match="text 1 must be str, not int"):
        embedder.embed(["a", 5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="put it into a list"):
        embedder.embed("a")


def test_the_fingerprint_is_as_given_or_of_name_and_dim() -> None:
    def fingerprint(**overrides: object) -> str:
        return rf.FunctionEmbedder(lengths, **{"dim": 2, "name": "a", **overrides}).fingerprint  # type: ignore[arg-type]

    assert fingerprint() == fingerprint()
    assert fingerprint().startswith("sha256:")
    assert len({fingerprint(), fingerprint(name="b"), fingerprint(dim=3), fingerprint(fingerprint="sha256:0")}) == 4
    assert fingerprint(fingerprint="sha256:0") == "sha256:0"


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="callable"):
        rf.FunctionEmbedder(3, dim=2, name="a")  # type: ignore[arg-type]
    with pytest.raises(rf.InvalidArgumentError, match="dim"):
        rf.FunctionEmbedder(lengths, dim=0, name="a")
    for names in ({"name": ""}, {"name": "a", "fingerprint": ""}):
        with pytest.raises(rf.InvalidArgumentError, match="name"):
            rf.FunctionEmbedder(lengths, dim=2, **names)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [-1, 0, 2.0, 2.5, "2", None, True, [2]])
def test_a_dim_that_is_no_count_is_named(dim: Any) -> None:
    with pytest.raises(rf.InvalidArgumentError, match="dim must be an integer of at least 1, found"):
        rf.FunctionEmbedder(lengths, dim=dim, name="a")


def test_a_dim_of_numpy_is_an_integer() -> None:
    assert rf.FunctionEmbedder(lengths, dim=np.int64(2), name="a").fingerprint == (
        rf.FunctionEmbedder(lengths, dim=2, name="a").fingerprint
    )


def test_names_are_text() -> None:
    for names in ({"name": 3}, {"name": None}, {"name": "a", "fingerprint": 3}):
        with pytest.raises(TypeError, match="must be str, not"):
            rf.FunctionEmbedder(lengths, dim=2, **names)  # type: ignore[arg-type]
