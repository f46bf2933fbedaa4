from __future__ import annotations

from collections import UserDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.routers import RandomRouter
from routellm_fast.texts import check_texts
from tests.support.builders import mf_router, static_embedder
from tests.support.fake_model import Model, vectors_of

TEXTS = ["hello", "prove", ""]


class Table:
    """What a data frame looks like: its elements are the names of its columns."""

    ndim = 2

    def __len__(self) -> int:
        return 1

    def __getitem__(self, name: str) -> list[str]:
        return ["hello"]

    def __iter__(self) -> Any:
        return iter(["prompt"])


def readers() -> dict[str, Callable[[Any], object]]:
    router = mf_router()
    plain = rf.FunctionEmbedder(vectors_of, dim=vectors_of(["a"]).shape[1], name="function")
    return {
        "check_texts": check_texts,
        "win_rates": router.win_rates,
        "route_batch": lambda texts: router.route_batch(texts, 0.5),
        "native win_rates": router._native.win_rates,
        "static embed": static_embedder().embed,
        "native embed": static_embedder()._native.embed,
        "native embed_ids": lambda texts: static_embedder()._native.embed_ids([[1]] * 3, [1] * 3, texts),
        "function embed": plain.embed,
        "cached embed": rf.CachedEmbedder(Model()).embed,
        "embedded win_rates": mf_router(rf.CachedEmbedder(static_embedder())).win_rates,  # type: ignore[arg-type]
        "random win_rates": RandomRouter(model_pair=rf.ModelPair("a", "b")).win_rates,
    }


READERS = list(readers())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: (text for text in TEXTS), "generator: list"),
        (lambda: iter(TEXTS), "list_iterator: list"),
        (lambda: map(str, TEXTS), "map: list"),
        (lambda: set(TEXTS), "set: list"),
        (lambda: frozenset(TEXTS), "frozenset"),
        (lambda: dict.fromkeys(TEXTS), "dict: give"),
        (lambda: dict.fromkeys(TEXTS).keys(), "dict_keys"),
        (lambda: UserDict(a="b"), "UserDict: give"),
        (lambda: "hello", "one str: put it into a list"),
        (lambda: b"hello", "one bytes"),
        (lambda: bytearray(b"hello"), "one bytearray"),
        (lambda: None, "NoneType"),
        (lambda: 3, "int"),
        (Table, "Table of 2 dimensions"),
        (lambda: np.array([TEXTS]), "ndarray of 2 dimensions"),
        (lambda: ["a", None], "text 1 must be str, not NoneType"),
        (lambda: ("a", b"b"), "text 1 must be str, not bytes"),
        (lambda: [["role", "user"]], r"text 0 must be str, not list.*text_of"),
    ],
)
def test_what_is_no_sequence_of_texts_is_named(reader: str, make: Callable[[], object], found: str) -> None:
    with pytest.raises(TypeError, match=found) as caught:
        readers()[reader](make())
    for leak in ("incompatible function arguments", "self:", "routellm_fast._core", "collections.abc"):
        assert leak not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", [list, tuple, deque, np.array, lambda texts: np.array(texts, dtype=object)])
def test_any_sequence_of_texts_is_read(reader: str, make: Callable[[Sequence[str]], Any]) -> None:
    read = readers()[reader]
    np.testing.assert_array_equal(np.array(read(make(TEXTS))), np.array(read(TEXTS)))


@pytest.mark.parametrize("prompt", [None, 3, b"hello", ["hello"], (text for text in TEXTS), [{"role": "user"}]])
def test_what_is_no_prompt_is_named(prompt: Any) -> None:
    router = mf_router()
    embedded = mf_router(rf.CachedEmbedder(static_embedder()))  # type: ignore[arg-type]
    for read in (router.win_rate, lambda text: router.route(text, 0.5), embedded.win_rate):
        with pytest.raises(TypeError, match=f"must be str, not {type(prompt).__name__}.*text_of"):
            read(prompt)
