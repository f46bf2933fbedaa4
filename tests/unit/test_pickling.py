"""Routers, embedders and caches in other processes, as copies, and as text."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import _core
from routellm_fast.embedders.stored import ShippedEmbedder
from routellm_fast.routers import RandomRouter, SimilarityWeightedRouter
from tests.support.builders import PAIR, bert_router, mf_router, model2vec_folder, static_embedder
from tests.support.sw_builders import sw_router

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
PROMPTS = ["hello", "prove the a b c?", "", "write 1 { }", "ünknown wörds"]


def lengths(texts: list[str]) -> list[list[float]]:
    return [[len(text), 1.0, *range(7)] for text in texts]


def function_embedder() -> rf.FunctionEmbedder:
    return rf.FunctionEmbedder(lengths, dim=9, name="lengths")


def saved(router: rf.Router, folder: Path) -> rf.Router:
    router.save(folder / "router")
    return rf.load_router(folder / "router")


def changed(router: rf.Router) -> rf.Router:
    assert isinstance(router, SimilarityWeightedRouter)
    return router.with_precision("int8", pca_dim=4)


ROUTERS: dict[str, Callable[[Path], rf.Router]] = {
    "shipped mf": lambda _: rf.load_router(),
    "shipped sw_ranking": lambda _: rf.load_router("sw_ranking"),
    "mf in memory": lambda _: mf_router(),
    "mf from a directory": lambda folder: saved(mf_router(), folder),
    "mf calibrated anew": lambda folder: saved(mf_router(), folder).with_calibration(
        rf.Calibration("other prompts", 9, ((0.0, 0.9), (1.0, 0.1)))
    ),
    "mf of a function": lambda _: mf_router(embedder=function_embedder()),  # type: ignore[arg-type]
    "mf of a function, from a directory": lambda folder: rf.load_router(
        saved(mf_router(embedder=function_embedder()), folder)._origin.path,  # type: ignore[arg-type, union-attr]
        embedder=function_embedder(),
        strong_model="big",
    ),
    "mf of a cache": lambda _: mf_router(rf.CachedEmbedder(static_embedder())),  # type: ignore[arg-type]
    "sw_ranking in memory": lambda _: sw_router("moments", added=(9,)),
    "sw_ranking from a directory": lambda folder: saved(sw_router("int8", added=(9,)), folder),
    "sw_ranking changed": lambda folder: changed(saved(sw_router(added=(9,)), folder)),
    "random": lambda _: RandomRouter(PAIR, seed=5),
}


@pytest.fixture(params=ROUTERS)
def router(request: pytest.FixtureRequest, tmp_path: Path) -> rf.Router:
    return ROUTERS[request.param](tmp_path)


def assert_same(copied: rf.Router, router: rf.Router, win_rates: np.ndarray | None = None) -> None:
    assert type(copied) is type(router)
    np.testing.assert_array_equal(
        copied.win_rates(PROMPTS) if win_rates is None else win_rates, router.win_rates(PROMPTS)
    )
    for name in ("model_pair", "calibration", "provenance", "model_card", "facts"):
        assert getattr(copied, name) == getattr(router, name), name


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_router_that_was_pickled_is_the_same_router(router: rf.Router, protocol: int, tmp_path: Path) -> None:
    copied = pickle.loads(pickle.dumps(router, protocol))
    assert_same(copied, router)
    assert_same(pickle.loads(pickle.dumps(copied, protocol)), router)
    router.save(tmp_path / "one")
    copied.save(tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_copy_is_a_router_that_scores_alike(router: rf.Router) -> None:
    for copied in (copy.copy(router), copy.deepcopy(router), copy.deepcopy([router])[0]):
        assert_same(copied, router)


def _ask(router: rf.Router) -> tuple[rf.Router, np.ndarray]:
    return router, router.win_rates(PROMPTS)


def test_a_pool_of_fresh_processes_routes_alike(tmp_path: Path) -> None:
    routers = [ROUTERS[name](tmp_path / str(i)) for i, name in enumerate(ROUTERS)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for router, (copied, win_rates) in zip(routers, pool.map(_ask, routers), strict=True):
            assert_same(copied, router, win_rates)
        embedders = [static_embedder(), function_embedder(), rf.CachedEmbedder(static_embedder()), ShippedEmbedder()]
        for embedder, vectors in zip(embedders, pool.map(_embed, embedders), strict=True):
            np.testing.assert_array_equal(vectors, embedder.embed(PROMPTS))


def _embed(embedder: rf.Embedder) -> np.ndarray:
    return embedder.embed(PROMPTS)


def test_a_router_with_a_directory_pickles_as_its_place_and_is_mapped_again(tmp_path: Path) -> None:
    router = saved(sw_router(added=(9,)), tmp_path)
    content = pickle.dumps(router)
    assert len(content) < 4000
    copied = pickle.loads(content)
    assert isinstance(copied, SimilarityWeightedRouter)
    for block in copied.blocks:
        assert isinstance(block.rows.base, _core.MappedFile)
        assert Path(block.rows.base.path).parent == tmp_path / "router"
    assert len(pickle.dumps(rf.load_router())) < 50_000  # its calibration, and none of its megabytes
    assert str(Path(rf.__file__).parent).encode() not in pickle.dumps(rf.load_router())  # another environment's differs


def test_a_directory_that_was_changed_or_is_gone_is_an_error(tmp_path: Path) -> None:
    content = pickle.dumps(saved(mf_router(), tmp_path))
    embedder = pickle.dumps(rf.StaticEmbedder.load(tmp_path / "router"))
    mf_router(provenance={"created": "later"}).save(tmp_path / "router")
    for pickled in (content, embedder):
        with pytest.raises(rf.ArtifactIntegrityError, match="the directory was changed since"):
            pickle.loads(pickled)
    shutil.rmtree(tmp_path / "router")
    for pickled in (content, embedder):
        with pytest.raises(rf.ArtifactNotFoundError, match="router"):
            pickle.loads(pickled)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_embedders_that_were_pickled_embed_alike(protocol: int, tmp_path: Path) -> None:
    static_embedder().save(tmp_path / "embedder")
    model2vec_folder(tmp_path / "folder")
    embedders: list[Any] = [
        static_embedder(),
        static_embedder(int8=False, normalize=True),
        rf.StaticEmbedder.load(tmp_path / "embedder"),
        rf.StaticEmbedder.load(tmp_path / "folder"),
        rf.load_router().embedder,
        ShippedEmbedder(),
        function_embedder(),
        rf.CachedEmbedder(static_embedder(), 1 << 20),
    ]
    for embedder in embedders:
        for copied in (pickle.loads(pickle.dumps(embedder, protocol)), copy.deepcopy(embedder)):
            assert (copied.name, copied.dim, copied.fingerprint) == (embedder.name, embedder.dim, embedder.fingerprint)
            np.testing.assert_array_equal(copied.embed(PROMPTS), embedder.embed(PROMPTS))
            assert repr(copied) == repr(embedder)


def test_a_cache_that_was_pickled_has_its_settings_its_store_and_an_empty_memory(tmp_path: Path) -> None:
    with rf.CachedEmbedder(static_embedder(), 1 << 20, tmp_path / "store", store_capacity_bytes=1 << 21) as cache:
        cache.embed(PROMPTS)
        with pickle.loads(pickle.dumps(cache)) as copied:
            assert (copied.stats.entries, copied.stats.capacity_bytes) == (0, 1 << 20)
            copied.embed(PROMPTS)
            assert (copied.stats.store_hits, copied.stats.embedded) == (len(PROMPTS), 0)
            assert repr(copied) == repr(cache)


def key_of(embedder: rf.OpenAIEmbedder) -> str:
    """The key that the embedder's client would send."""
    return str(embedder._connection._new_client(lambda openai, server, key, **settings: key.reveal(), None, None))


def test_an_openai_embedder_leaves_its_key_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    embedder = rf.OpenAIEmbedder("tiny", base_url="http://127.0.0.1:9/v1", dim=9, api_key="sk-secret", max_chars=7)
    content = pickle.dumps(embedder)
    assert b"sk-secret" not in content
    copied = pickle.loads(content)
    assert (copied.fingerprint, copied.name, repr(copied)) == (embedder.fingerprint, embedder.name, repr(embedder))
    assert copied.stored() == embedder.stored()
    assert key_of(copied) == "none"
    assert key_of(copied.with_key("sk-other")) == "sk-other"
    assert key_of(copy.deepcopy(embedder)) == "sk-secret"
    ours = pickle.loads(pickle.dumps(rf.OpenAIEmbedder(api_key="sk-secret")))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    assert key_of(ours) == "sk-of-the-worker"
    with pytest.raises(TypeError, match="HTTP client of its own does not pickle"):
        pickle.dumps(rf.OpenAIEmbedder(http_client=object()))


def test_a_function_that_does_not_pickle_says_so() -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(rf.FunctionEmbedder(lambda texts: texts, dim=1, name="local"))


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_bert_routers_and_encoders_pickle_with_their_options(place: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    router: Any = bert_router()
    if place == "directory":
        router.save(tmp_path / "router")
        router = rf.load_router(tmp_path / "router", device="cpu", threads=1)
    content = pickle.dumps(router)
    assert (b"ReduceSum" in content) == (place == "memory")  # the graph
    copied = pickle.loads(content)
    assert_same(copied, router)
    assert copied._options == router._options
    assert copy.deepcopy(router).win_rate("hello") == router.win_rate("hello")


@pytest.mark.parametrize(
    ("router", "shown"),
    [
        (mf_router(), ("MatrixFactorizationRouter(kind='mf', strong='strong-model', weak='weak-model', dim=9, "
                      "precision='float32')")),
        (sw_router("int8"), ("SimilarityWeightedRouter(kind='sw_ranking', strong='strong-model', weak='weak-model', "
                            "dim=9, precision='int8')")),
        (RandomRouter(PAIR, seed=5), "RandomRouter(kind='random', strong='strong-model', weak='weak-model', seed=5)"),
    ],
)  # fmt: skip
def test_a_router_shows_what_it_is(router: rf.Router, shown: str) -> None:
    assert repr(router) == shown


def test_embedders_and_caches_show_what_they_are() -> None:
    assert repr(static_embedder()) == "StaticEmbedder(name='static:tiny', dim=9, precision='int8')"
    assert repr(static_embedder(int8=False)) == "StaticEmbedder(name='static:tiny', dim=9, precision='float32')"
    cache = rf.CachedEmbedder(static_embedder(), 4096)
    assert repr(cache) == f"CachedEmbedder({static_embedder()!r}, capacity_bytes=4096, path=None)"
    assert repr(function_embedder()) == "FunctionEmbedder(name='lengths', dim=9)"
    assert repr(ShippedEmbedder()).startswith("ShippedEmbedder(name='")


def test_a_limit_of_threads_is_kept() -> None:
    router = sw_router(threads=1)
    assert pickle.loads(pickle.dumps(router))._threads == 1
    with pytest.raises(rf.InvalidArgumentError, match="from 1 to 1024"):
        sw_router(threads=10**30)
