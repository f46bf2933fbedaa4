from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import _core
from routellm_fast.embedders import Embedder
from routellm_fast.routers import MatrixFactorizationRouter
from tests.support.builders import PAIR, mf_router, mf_weights, static_embedder
from tests.support.fake_model import DIM, AsyncModel, Model, vectors_of
from tests.support.processes import run_python

DATA_FILE = "routellm_fast_embeddings.sqlite3"
TEXTS = ["", " ", "a", "b", "é", "\ud800", "\ud83d\ude00", "\U0001f600", "a\x00", "x" * 5000]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


# --- the answer


@pytest.mark.parametrize("way", ["sync", "async", "async in a thread"])
@pytest.mark.parametrize("with_store", [False, True])
def test_vectors_are_bitwise_those_of_the_wrapped_embedder(path: Path, way: str, with_store: bool) -> None:
    model = AsyncModel() if way == "async" else Model()
    with rf.CachedEmbedder(model, path=path if with_store else None) as cached:
        ask = cached.embed if way == "sync" else lambda texts: asyncio.run(cached.aembed(texts))
        for texts in (TEXTS, TEXTS[::-1], [*TEXTS, "new", *TEXTS], []):
            vectors = ask(texts)
            assert vectors.dtype == np.float32
            assert vectors.flags.c_contiguous
            assert vectors.flags.owndata
            assert np.array_equal(vectors, vectors_of(texts))
        assert sorted(model.seen) == sorted([*TEXTS, "new"])


def test_it_is_an_embedder_with_the_wrapped_ones_identity() -> None:
    model = static_embedder()
    cached = rf.CachedEmbedder(model)
    assert isinstance(cached, Embedder)
    assert (cached.name, cached.dim, cached.fingerprint) == (model.name, model.dim, model.fingerprint)
    assert cached.embedder is model
    assert "StaticEmbedder" in repr(cached)


def test_a_router_routes_the_same_with_a_cache(tmp_path: Path) -> None:
    plain = mf_router(static_embedder(normalize=True))
    cached = mf_router(rf.CachedEmbedder(plain.embedder))  # type: ignore[arg-type]
    prompts = ["hello", "prove the a", "", "hello"]
    for _ in range(2):
        assert np.array_equal(cached.win_rates(prompts), plain.win_rates(prompts))
        assert cached.win_rate("hello") == plain.win_rate("hello")
    cached.save(tmp_path / "router")
    loaded = rf.load_router(tmp_path / "router")
    assert isinstance(loaded.embedder, rf.StaticEmbedder)
    assert loaded.win_rate("hello") == plain.win_rate("hello")


def test_equal_texts_of_a_batch_are_embedded_once() -> None:
    model = Model()
    cached = rf.CachedEmbedder(model)
    texts = ["a", "b", "a", "a", "c", "b"]
    assert np.array_equal(cached.embed(texts), vectors_of(texts))
    assert model.seen == ["a", "b", "c"]
    stats = cached.stats
    assert (stats.hits, stats.store_hits, stats.misses, stats.embedded, stats.entries) == (0, 0, 6, 3, 3)
    cached.embed(texts)
    assert model.calls == 1
    assert cached.stats.hits == 6


@pytest.mark.parametrize("with_store", [False, True])
def test_vectors_from_elsewhere_are_kept_and_not_asked_for(path: Path, with_store: bool) -> None:
    model = Model()
    texts = [f"text {number}" for number in range(2500)]  # more than are kept at a time
    where = path if with_store else None
    with rf.CachedEmbedder(model, path=where) as cached:
        before = cached.stats
        assert cached.holds(["new", *texts]) == [False] * 2501
        cached.keep(texts, vectors_of(texts).astype(np.float64))
        assert cached.holds(["new", *texts, "text 0"]) == [False, *[True] * 2501]
        assert (cached.stats.hits, cached.stats.misses) == (before.hits, before.misses)
        assert np.array_equal(cached.embed([*texts, "new"]), vectors_of([*texts, "new"]))
        assert model.seen == ["new"]
    with rf.CachedEmbedder(Model(), path=where) as again:
        assert all(again.holds(texts)) == with_store
        assert again.holds([]) == []


def test_vectors_that_cannot_be_of_the_texts_are_refused() -> None:
    cached = rf.CachedEmbedder(Model())
    for vectors, words in (
        (vectors_of(["a"]), "1 vectors for 2 texts"),
        (np.zeros((2, DIM + 1)), "expected real numbers of shape"),
        (np.full((2, DIM), np.nan), "expected finite float32"),
    ):
        with pytest.raises(rf.InvalidEmbeddingError, match=words):
            cached.keep(["a", "b"], vectors)
    with pytest.raises(TypeError, match="must be str"):
        cached.keep(["a", 1], np.zeros((2, DIM)))  # type: ignore[list-item]
    assert cached.holds(["a", "b"]) == [False, False]


def test_the_caller_owns_what_it_gets(path: Path) -> None:
    with rf.CachedEmbedder(Model(), path=path) as cached:
        for _ in range(3):
            vectors = cached.embed(["a", "b"])
            assert np.array_equal(vectors, vectors_of(["a", "b"]))
            vectors[:] = 7


def test_an_embedder_that_uses_its_array_again_does_no_harm() -> None:
    class Reusing(Model):
        buffer = np.empty((1, DIM), np.float32)

        def embed(self, texts: Sequence[str]) -> np.ndarray:
            self.buffer[:] = vectors_of(texts)
            return self.buffer

    cached = rf.CachedEmbedder(Reusing())
    first = cached.embed(["a"])
    cached.embed(["b"])
    assert np.array_equal(first, vectors_of(["a"]))
    assert np.array_equal(cached.embed(["a"]), first)


@pytest.mark.parametrize("texts", ["a", b"a", ["a", None], [1]])
def test_texts_are_checked(texts: Any) -> None:
    cached = rf.CachedEmbedder(Model())
    with pytest.raises(TypeError, match="str"):
        cached.embed(texts)
    with pytest.raises(TypeError, match="str"):
        asyncio.run(cached.aembed(texts))


# --- faults of the wrapped embedder


@pytest.mark.parametrize("kind", [Model, AsyncModel])
def test_a_failure_comes_through_and_leaves_the_cache_as_it_was(path: Path, kind: type[Model]) -> None:
    model = kind()
    with rf.CachedEmbedder(model, path=path) as cached:
        cached.embed(["a"])
        model.fault = rf.EmbedderUnavailableError("gone")
        for _ in range(2):
            with pytest.raises(rf.EmbedderUnavailableError, match="gone"):
                cached.embed(["a", "b"])
            with pytest.raises(rf.EmbedderUnavailableError, match="gone"):
                asyncio.run(cached.aembed(["a", "b"]))
        assert cached.stats.entries == 1
        assert np.array_equal(cached.embed(["a"]), vectors_of(["a"]))
        model.fault = None
        assert np.array_equal(cached.embed(["a", "b"]), vectors_of(["a", "b"]))
        assert model.seen.count("a") == 1


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros((1, DIM), np.float32),
        np.zeros((2, DIM + 1), np.float32),
        np.full((2, DIM), np.nan, np.float32),
        None,
    ],
)
def test_a_wrong_answer_is_refused_and_not_kept(answer: Any) -> None:
    model = Model()
    model.embed = lambda texts: answer  # type: ignore[method-assign]
    cached = rf.CachedEmbedder(model)
    with pytest.raises(rf.InvalidEmbeddingError, match="model returned"):
        cached.embed(["a", "b"])
    assert cached.stats.entries == 0


# --- many at once


def test_concurrent_calls_for_a_text_embed_it_once() -> None:
    model = Model(delay_s=0.1)
    cached = rf.CachedEmbedder(model)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(cached.embed, [["a", f"own {i}"] for i in range(8)]))
    assert model.seen.count("a") == 1
    for i, vectors in enumerate(answers):
        assert np.array_equal(vectors, vectors_of(["a", f"own {i}"]))
    stats = cached.stats
    assert stats.hits + stats.misses == 16
    assert stats.embedded == 9


@pytest.mark.parametrize("kind", [Model, AsyncModel])
def test_concurrent_tasks_embed_a_text_once(kind: type[Model]) -> None:
    model = kind(delay_s=0.1)
    cached = rf.CachedEmbedder(model)

    async def run() -> list[np.ndarray]:
        return await asyncio.gather(*(cached.aembed(["a", f"own {i}"]) for i in range(6)))

    for i, vectors in enumerate(asyncio.run(run())):
        assert np.array_equal(vectors, vectors_of(["a", f"own {i}"]))
    assert model.seen.count("a") == 1


def test_a_call_that_waited_for_a_failed_one_asks_by_itself() -> None:
    started = threading.Event()

    class FirstFails(Model):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            self.calls += 1
            if self.calls == 1:
                started.set()
                time.sleep(0.1)
                raise rf.EmbedderUnavailableError("the first")
            return vectors_of(texts)

    cached = rf.CachedEmbedder(FirstFails())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached.embed, ["a"])
        started.wait()
        second = pool.submit(cached.embed, ["a"])
        with pytest.raises(rf.EmbedderUnavailableError):
            first.result()
        assert np.array_equal(second.result(), vectors_of(["a"]))


def test_a_cancelled_task_does_not_take_the_others_along() -> None:
    model = AsyncModel(delay_s=0.1)
    cached = rf.CachedEmbedder(model)

    async def run() -> None:
        owner, *waiters = (asyncio.ensure_future(cached.aembed(["a"])) for _ in range(4))
        await asyncio.sleep(0.02)
        owner.cancel()
        waiters[0].cancel()
        for waiter in waiters[1:]:
            assert np.array_equal(await waiter, vectors_of(["a"]))
        assert owner.cancelled()
        assert waiters[0].cancelled()

    asyncio.run(run())
    assert np.array_equal(cached.embed(["a"]), vectors_of(["a"]))


def test_a_blocking_call_inside_the_loop_of_a_waiting_task_does_not_deadlock() -> None:
    cached = rf.CachedEmbedder(AsyncModel(delay_s=0.05))

    async def run() -> None:
        task = asyncio.ensure_future(cached.aembed(["a"]))
        await asyncio.sleep(0.01)
        assert np.array_equal(cached.embed(["a"]), vectors_of(["a"]))
        await task

    asyncio.run(asyncio.wait_for(run(), 5))


def test_the_event_loop_goes_on_while_a_blocking_embedder_works() -> None:
    cached = rf.CachedEmbedder(Model(delay_s=0.2))

    async def run() -> int:
        task = asyncio.ensure_future(cached.aembed(["a"]))
        beats = 0
        while not task.done():
            await asyncio.sleep(0.01)
            beats += 1
        return beats

    assert asyncio.run(run()) > 5


def test_many_threads_never_get_a_foreign_or_torn_vector(path: Path) -> None:
    texts = [f"text {i}" for i in range(300)]
    expected = dict(zip(texts, vectors_of(texts), strict=True))
    with rf.CachedEmbedder(Model(), 12_000, path, store_capacity_bytes=1 << 20) as cached:

        def work(seed: int) -> bool:
            rng = np.random.default_rng(seed)
            for _ in range(60):
                wanted = [texts[i] for i in rng.integers(0, len(texts), 10)]
                rows = cached.embed(wanted)
                if not all(np.array_equal(row, expected[text]) for row, text in zip(rows, wanted, strict=True)):
                    return False
            return True

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))
        stats = cached.stats
        assert stats.evictions > 0
        assert stats.store_hits > 0
        assert stats.bytes_used <= stats.capacity_bytes == 12_000
        assert stats.hits + stats.store_hits + stats.misses == 6 * 60 * 10
        assert stats.store_damaged == stats.store_rejected == 0


# --- memory


def test_memory_is_bounded_and_evicts_what_was_used_least_recently() -> None:
    model = Model(dim=256)
    cached = rf.CachedEmbedder(model, 50_000)
    for i in range(200):
        cached.embed([f"text {i}", "always"])
    stats = cached.stats
    assert stats.bytes_used <= 50_000
    assert stats.evictions == 201 - stats.entries
    assert model.seen.count("always") == 1
    assert stats.entries * 256 * 4 > 0.8 * 50_000


@pytest.mark.parametrize("capacity_bytes", [0, 1, 100])
def test_a_capacity_too_small_for_one_vector_keeps_none(capacity_bytes: int) -> None:
    model = Model(dim=256)
    cached = rf.CachedEmbedder(model, capacity_bytes)
    for _ in range(2):
        assert np.array_equal(cached.embed(["a"]), vectors_of(["a"], 256))
    assert model.calls == 2
    assert (cached.stats.entries, cached.stats.bytes_used) == (0, 0)


def test_arguments_are_checked() -> None:
    with pytest.raises(rf.InvalidArgumentError, match="capacity_bytes"):
        rf.CachedEmbedder(Model(), -1)
    with pytest.raises(rf.InvalidArgumentError, match="store_capacity_bytes"):
        rf.CachedEmbedder(Model(), store_capacity_bytes=1000)


@pytest.mark.parametrize("thing", [None, "directory", 3, object(), lambda texts: texts, np.zeros(3)])
def test_what_is_no_embedder_is_named(thing: Any) -> None:
    kind = type(thing).__name__
    with pytest.raises(
        TypeError, match=rf"an embedder has name, dim, fingerprint and embed, found {kind}, which has no"
    ):
        rf.CachedEmbedder(thing)


def test_a_class_is_no_embedder() -> None:
    with pytest.raises(TypeError, match="found the class StaticEmbedder: make an object of it"):
        rf.CachedEmbedder(rf.StaticEmbedder)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [-1, 0, 12.0, 12.5, "12", None, True])
def test_an_odd_dim_is_named(dim: Any) -> None:
    with pytest.raises(rf.InvalidArgumentError, match="the dim of Model must be an integer of at least 1, found"):
        rf.CachedEmbedder(Model(dim=dim))


def test_a_name_and_a_fingerprint_are_texts() -> None:
    with pytest.raises(rf.InvalidArgumentError, match="the fingerprint of an embedder is a text, found 3 of Model"):
        rf.CachedEmbedder(Model(fingerprint=3))  # type: ignore[arg-type]


def test_a_dim_of_numpy_is_an_integer() -> None:
    assert rf.CachedEmbedder(Model(dim=np.int64(DIM))).embed(["a"]).shape == (1, DIM)  # type: ignore[arg-type]


def test_a_router_names_what_is_no_embedder_too(tmp_path: Path) -> None:
    mf_router().save(tmp_path / "router")
    names = ("strong-model", "weak-model", "other-model")
    for thing in ("directory", rf.StaticEmbedder):
        with pytest.raises(TypeError, match="an embedder has name, dim, fingerprint and embed"):
            rf.load_router(tmp_path / "router", embedder=thing)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="an embedder has name, dim, fingerprint and embed"):
            MatrixFactorizationRouter(model_names=names, **mf_weights(dim=9), model_pair=PAIR, embedder=thing)  # type: ignore[arg-type]


def test_the_native_cache_checks_its_arguments() -> None:
    cache = _core.EmbeddingCache(3, 1 << 20, shards=2)
    keys = bytes(32)
    out = np.zeros((2, 3), np.float32)
    cache.put_many(keys, out)
    assert cache.get_many(keys, out).tolist() == [True, True]
    assert (len(cache), cache.dim, cache.capacity_bytes) == (1, 3, 1 << 20)
    assert cache.stats() == {"hits": 2, "misses": 0, "evictions": 0, "entries": 1, "bytes_used": cache.bytes_used}
    assert cache.get_many(b"", out[:0]).tolist() == []
    with pytest.raises(rf.InvalidArgumentError, match="16 bytes each"):
        cache.get_many(keys[:-1], out)
    with pytest.raises(rf.InvalidEmbeddingError, match="3 rows for 2 keys"):
        cache.put_many(keys, np.zeros((3, 3), np.float32))
    for wrong in (out.astype(np.float64), out[:, :2], out.T, out[0], None):
        with pytest.raises(rf.InvalidEmbeddingError, match="float32 C-contiguous"):
            cache.get_many(keys, wrong)  # type: ignore[arg-type]
    out.flags.writeable = False
    with pytest.raises(rf.InvalidArgumentError, match="read-only"):
        cache.get_many(keys, out)
    for arguments in ((0, 100), (3, 100, 0)):
        with pytest.raises(rf.InvalidArgumentError):
            _core.EmbeddingCache(*arguments)


# --- the store


def test_the_store_outlives_the_embedder(path: Path) -> None:
    with rf.CachedEmbedder(Model(), path=path) as cached:
        cached.embed(TEXTS)
    model = Model()
    with rf.CachedEmbedder(model, path=path) as cached:
        assert np.array_equal(cached.embed([*TEXTS, "a"]), vectors_of([*TEXTS, "a"]))
        assert model.calls == 0
        assert cached.stats.store_hits == len(TEXTS) + 1
        cached.embed(TEXTS)
        assert cached.stats.hits == len(TEXTS)
        assert np.array_equal(asyncio.run(cached.aembed(["new"])), vectors_of(["new"]))


def test_models_that_share_a_store_never_mix(path: Path) -> None:
    class Other(Model):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return -super().embed(texts)

    with (
        rf.CachedEmbedder(Model(), path=path) as one,
        rf.CachedEmbedder(Other(fingerprint="sha256:other"), path=path) as other,
        rf.CachedEmbedder(Model(dim=5), path=path) as short,
        rf.CachedEmbedder(Model(), path=path) as twin,
    ):
        for _ in range(2):
            assert np.array_equal(one.embed(TEXTS), vectors_of(TEXTS))
            assert np.array_equal(other.embed(TEXTS), -vectors_of(TEXTS))
        # Fingerprints that lie about the length do harm to nobody but themselves.
        assert np.array_equal(short.embed(TEXTS), vectors_of(TEXTS, 5))
        assert np.array_equal(twin.embed(TEXTS[:3]), vectors_of(TEXTS[:3]))


def test_closing_one_leaves_the_store_to_the_others(path: Path) -> None:
    one, other = (rf.CachedEmbedder(Model(), 0, path) for _ in range(2))
    one.embed(["a"])
    one.close()
    one.close()
    assert np.array_equal(one.embed(["a"]), vectors_of(["a"]))
    other.embed(["a"])
    assert other.stats.store_hits == 1
    assert open_files(path)
    other.close()
    assert not open_files(path)


def test_an_embedder_that_is_dropped_gives_its_store_back(path: Path) -> None:
    cached = rf.CachedEmbedder(Model(), path=path)
    cached.embed(["a"])
    assert open_files(path)
    del cached
    assert not open_files(path)


def open_files(path: Path) -> list[Path]:
    """The files of a folder that this process has open."""
    found = []
    for link in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # the one that the listing itself had open
            found.append(link.readlink())
    return [file for file in found if file.parent == path]


def damage(path: Path, change: Any) -> None:
    with contextlib.closing(sqlite3.connect(path / DATA_FILE, isolation_level=None)) as database:
        rows = database.execute("SELECT key, value FROM embeddings WHERE length(key) = 16").fetchall()
        for key, value in rows:
            database.execute("UPDATE embeddings SET value = ? WHERE key = ?", (change(value), key))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value[:-1] + bytes([value[-1] ^ 1]),
        lambda value: bytes([value[0] ^ 1]) + value[1:],
        lambda value: value[:4] + bytes([value[4] ^ 1]) + value[5:],
        lambda value: value[:-4],
        lambda value: value + b"\0\0\0\0",
        lambda value: b"",
        lambda value: 7,
        lambda value: "text",
    ],
)
def test_a_damaged_value_is_a_miss_and_is_mended(path: Path, change: Any) -> None:
    with rf.CachedEmbedder(Model(), path=path) as cached:
        cached.embed(["a", "b"])
    damage(path, change)
    model = Model()
    with rf.CachedEmbedder(model, path=path) as cached:
        assert np.array_equal(cached.embed(["a", "b"]), vectors_of(["a", "b"]))
        assert (model.seen, cached.stats.store_damaged, cached.stats.store_hits) == (["a", "b"], 2, 0)
    with rf.CachedEmbedder(Model(), path=path) as cached:
        cached.embed(["a", "b"])
        assert cached.stats.store_hits == 2


def test_a_value_under_another_key_is_a_miss(path: Path) -> None:
    with rf.CachedEmbedder(Model(), path=path) as cached:
        cached.embed(["a", "b"])
    values: list[bytes] = []
    damage(path, lambda value: values.append(value) or value)
    damage(path, lambda value: values[1] if value == values[0] else values[0])
    with rf.CachedEmbedder(Model(), path=path) as cached:
        assert np.array_equal(cached.embed(["a", "b"]), vectors_of(["a", "b"]))
        assert cached.stats.store_damaged == 2


def test_a_full_store_stops_growing_and_nothing_else(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"text {i}" for i in range(400)]
    model = Model(dim=1000)
    with rf.CachedEmbedder(model, 0, path, store_capacity_bytes=1 << 20) as cached, caplog.at_level(logging.WARNING):
        for start in range(0, len(texts), 10):
            batch = texts[start : start + 10]
            assert np.array_equal(cached.embed(batch), vectors_of(batch, 1000))
        assert np.array_equal(asyncio.run(cached.aembed(["more"])), vectors_of(["more"], 1000))
        rejected = cached.stats.store_rejected
        assert 0 < rejected < 400
        assert len(caplog.records) == 1
        assert "full" in caplog.text
        cached.embed(texts[:10])
        assert cached.stats.store_hits == 10
    assert (path / DATA_FILE).stat().st_size <= 1 << 20
    with rf.CachedEmbedder(Model(dim=1000), 0, path, store_capacity_bytes=1 << 23) as cached:
        cached.embed(texts)
        assert cached.stats.store_hits == 400 - (rejected - 1)
        assert cached.stats.store_rejected == 0


def test_a_full_disk_fails_no_request(path: Path) -> None:
    # A limit on the size of files is what a full disk is to a process, and needs no disk.
    program = f"""
import logging, resource, signal
from tests.support.fake_model import Model, vectors_of
import numpy as np, routellm_fast as rf
logging.basicConfig(level=logging.WARNING)
cached = rf.CachedEmbedder(Model(dim=1000), 0, {str(path)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for i in range(200):
    assert np.array_equal(cached.embed([str(i)]), vectors_of([str(i)], 1000))
assert 100 < cached.stats.store_rejected < 200, cached.stats
cached.embed(["0"])
assert cached.stats.store_hits == 1
"""
    run = run_python("-W", "ignore::DeprecationWarning", "-c", program)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("stores nothing new for now") == 1
    with rf.CachedEmbedder(Model(dim=1000), 0, path) as cached:
        texts = [str(i) for i in range(200)]
        assert np.array_equal(cached.embed(texts), vectors_of(texts, 1000))
        assert 0 < cached.stats.store_hits < 100
        assert cached.stats.store_damaged == 0


def test_on_a_full_disk_an_old_store_opens_and_a_new_one_is_refused(path: Path) -> None:
    rf.CachedEmbedder(Model(), path=path).close()
    program = f"""
import resource
from pathlib import Path
from tests.support.fake_model import Model
import routellm_fast as rf
path = Path({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
rf.CachedEmbedder(Model(), path=path).close()
rf.CachedEmbedder(Model(), path=path, store_capacity_bytes=5 << 30).close()  # cannot be noted in the file
try:
    rf.CachedEmbedder(Model(), path=path.with_name("new"))
except rf.EmbedderUnavailableError as error:
    print(error)
"""
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr
    assert "new cannot be used: disk I/O error" in run.stdout


def test_a_killed_process_leaves_a_whole_store(path: Path) -> None:
    program = f"""
import itertools, sys
from tests.support.fake_model import Model
import routellm_fast as rf
cached = rf.CachedEmbedder(Model(dim=700), 0, {str(path)!r})
first = int(sys.argv[1])
for i in itertools.count(first):
    cached.embed([f"text {{i}}.{{k}}" for k in range(5)])
    print(i, flush=True)
"""
    tests = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH", "")]))}
    written = 0
    for round_number in range(4):
        command = [sys.executable, "-c", program, str(written)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=path.parent) as child:
            assert child.stdout is not None
            for _ in range(30 + 7 * round_number):
                written = int(child.stdout.readline()) + 1
            time.sleep(0.0013 * round_number)
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().split()
        written = int(rest[-1]) + 1 if rest else written
    model = Model(dim=700)
    with rf.CachedEmbedder(model, 0, path) as cached:
        texts = [f"text {i}.{k}" for i in range(written + 3) for k in range(5)]
        assert np.array_equal(cached.embed(texts), vectors_of(texts, 700))
        assert cached.stats.store_damaged == 0
        assert cached.stats.store_hits >= 5 * written
        assert cached.stats.store_hits % 5 == 0  # a batch is stored whole or not at all


def test_processes_share_a_store_also_one_with_a_larger_map(path: Path) -> None:
    with rf.CachedEmbedder(Model(dim=1000), 0, path, store_capacity_bytes=1 << 20) as cached:
        cached.embed(["parent"])
        program = f"""
from tests.support.fake_model import Model
import routellm_fast as rf
with rf.CachedEmbedder(Model(dim=1000), 0, {str(path)!r}, store_capacity_bytes=1 << 24) as cached:
    cached.embed(["parent", *(f"text {{i}}" for i in range(500))])
    assert cached.stats.store_hits == 1 and cached.stats.store_rejected == 0, cached.stats
"""
        run = run_python("-W", "ignore::DeprecationWarning", "-c", program)
        assert run.returncode == 0, run.stderr
        texts = ["parent", *(f"text {i}" for i in range(500))]
        assert np.array_equal(cached.embed(texts), vectors_of(texts, 1000))
        assert cached.stats.store_hits == 501
        cached.embed(["after"])
        assert cached.stats.store_rejected == 0


def test_a_forked_child_opens_the_store_anew(path: Path) -> None:
    program = f"""
import os, threading
from tests.support.fake_model import Model, vectors_of
import numpy as np, routellm_fast as rf
model = Model()
cached = rf.CachedEmbedder(model, path={str(path)!r})
cached.embed(["before"])
stop = threading.Event()
def busy():
    n = 0
    while not stop.is_set():
        cached.embed([f"busy {{n}}"]); n += 1
thread = threading.Thread(target=busy); thread.start()
children = []
for c in range(8):
    child = os.fork()
    if child == 0:
        try:
            ok = np.array_equal(cached.embed(["before", f"child {{c}}"]), vectors_of(["before", f"child {{c}}"]))
            stats = cached.stats
            cached.close()
            os._exit(0 if ok and (stats.hits, stats.store_hits, stats.misses) == (0, 1, 1) else 1)
        finally:
            os._exit(2)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
stop.set(); thread.join()
assert codes == [0] * 8, codes
texts = [f"child {{c}}" for c in range(8)]
hits = cached.stats.store_hits
assert np.array_equal(cached.embed(texts), vectors_of(texts))
assert cached.stats.store_hits == hits + 8, cached.stats
cached.close()
"""
    run = run_python("-W", "ignore::DeprecationWarning", "-c", program)
    assert run.returncode == 0, run.stderr


# --- folders that are no store


def assert_unusable(path: Path, *words: str) -> None:
    with pytest.raises(rf.EmbedderUnavailableError) as caught:
        rf.CachedEmbedder(Model(), path=path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_file_is_no_store(path: Path) -> None:
    path.write_text("a file")
    assert_unusable(path, "File exists")
    assert path.read_text() == "a file"


def test_a_folder_of_other_files_is_left_alone(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    assert_unusable(path, "other files", "a folder of its own")
    assert [entry.name for entry in path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_database_of_another_program_is_left_alone(path: Path, journal: str) -> None:
    path.mkdir()
    with contextlib.closing(sqlite3.connect(path / DATA_FILE)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE theirs (value)")
    before = (path / DATA_FILE).read_bytes()
    assert_unusable(path, "another program", "another folder")
    assert (path / DATA_FILE).read_bytes() == before


def test_a_beginning_of_zeros_is_damage_wherever_it_begins(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both marks of a store may be gone, and it is still no other program's."""
    with rf.CachedEmbedder(Model(), 0, path) as cached:
        cached.embed(["a"])
    sound = (path / DATA_FILE).read_bytes()
    for begin in range(0, 100, 2):
        (path / DATA_FILE).write_bytes(sound[:begin] + bytes(4096 - begin) + sound[4096:])
        with rf.CachedEmbedder(Model(), 0, path) as cached, caplog.at_level(logging.CRITICAL):
            cached.embed(["a"])
            cached.embed(["a"])
            assert cached.stats.store_hits == 1, begin


def test_a_store_whose_maker_was_killed_at_once_is_begun_again(path: Path) -> None:
    """SQLite rolls the first transaction back, and leaves a database without a mark of anybody's."""
    path.mkdir()
    with contextlib.closing(sqlite3.connect(path / DATA_FILE)) as database:
        database.execute("CREATE TABLE embeddings (key)")
        database.execute("DROP TABLE embeddings")
    with rf.CachedEmbedder(Model(), 0, path) as cached:
        cached.embed(["a"])
        cached.embed(["a"])
        assert (cached.stats.store_hits, cached.stats.store_rejected) == (1, 0)


def test_an_index_that_finds_nothing_is_damage(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without reading back what was written, such a store would never keep anything again."""
    texts = [str(number) for number in range(400)]
    with rf.CachedEmbedder(Model(), 0, path) as cached:
        cached.embed(texts)
    with contextlib.closing(sqlite3.connect(path / DATA_FILE)) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_embeddings_1'"
        ).fetchone()
    content = bytearray((path / DATA_FILE).read_bytes())
    content[4096 * (page - 1) + 3 : 4096 * (page - 1) + 5] = bytes(2)  # the number of its cells: none
    (path / DATA_FILE).write_bytes(content)
    with rf.CachedEmbedder(Model(), 0, path) as cached, caplog.at_level(logging.CRITICAL):
        for _ in range(3):
            cached.embed(texts)
        before = cached.stats.store_hits
        cached.embed(texts)
        assert cached.stats.store_hits - before == len(texts)


def test_an_lmdb_store_of_earlier_versions_is_named_and_left_alone(path: Path) -> None:
    path.mkdir()
    for name in ("data.mdb", "lock.mdb"):
        (path / name).write_bytes(b"x")
    assert_unusable(path, "an LMDB store, which only earlier versions read", "a folder of its own")
    assert sorted(entry.name for entry in path.iterdir()) == ["data.mdb", "lock.mdb"]


def test_a_newer_format_is_refused(path: Path) -> None:
    rf.CachedEmbedder(Model(), path=path).close()
    with contextlib.closing(sqlite3.connect(path / DATA_FILE)) as database:
        database.execute("PRAGMA user_version = 2")
        database.execute("ALTER TABLE embeddings ADD COLUMN something_new")
        database.commit()
    assert_unusable(path, "its format is 2, this version reads 1")


@pytest.mark.parametrize("name", [DATA_FILE, f"{DATA_FILE}.lock", f"{DATA_FILE}-journal"])
def test_a_folder_in_the_place_of_a_file_is_named(path: Path, name: str) -> None:
    (path / name).mkdir(parents=True)
    assert_unusable(path, name)


def test_a_fifo_in_the_place_of_the_file_is_named(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / DATA_FILE)
    assert_unusable(path, "no regular file")


# --- damage


def filled(path: Path) -> list[str]:
    """Make a store of many pages. Returns its texts."""
    texts = [f"text {i}" for i in range(60)]
    with rf.CachedEmbedder(Model(dim=1000), path=path) as cached:
        cached.embed(texts)
    return texts


def rewrite(path: Path, change: Any) -> None:
    """Change the file in place, as a failing disk or a careless program does."""
    content = bytearray((path / DATA_FILE).read_bytes())
    changed = change(content)
    with (path / DATA_FILE).open("r+b") as file:
        file.truncate(0)
        file.write(content if changed is None else changed)


def flip(offset: int, value: int) -> Any:
    def change(content: bytearray) -> None:
        content[offset] = value

    return change


DAMAGES: dict[str, Any] = {
    "cut off": lambda content: content[:40_000],
    "cut off in the header": lambda content: content[:50],
    "random bytes": lambda content: b"\x93" * len(content),
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"not a database",
    "every page but the first": lambda content: content[:4096] + b"\xff" * (len(content) - 4096),
    "tables": lambda content: content.replace(b"CREATE TABLE", b"CREATE \xff\xfeBLE"),
    "a write-ahead log is asked for": flip(19, 2),
    "may not be written": flip(18, 7),
    "a schema of another format": flip(47, 9),
    "application": flip(70, 1),
    "format": flip(63, 9),
}


def assert_begun_anew(
    path: Path, cached: rf.CachedEmbedder, caplog: pytest.LogCaptureFixture, texts: list[str]
) -> None:
    """The store was damaged: all texts are embedded again and kept again, and one warning said why."""
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(cached.embed(texts), vectors_of(texts, 1000))
    assert [record.levelname for record in caplog.records] == ["WARNING"], caplog.text
    for word in (str(path), "is damaged", f"{DATA_FILE}.damaged", "computed again"):
        assert word in caplog.text
    assert cached.stats.store_rejected == 0
    model = Model(dim=1000)
    with rf.CachedEmbedder(model, path=path) as other:
        assert np.array_equal(other.embed(texts), vectors_of(texts, 1000))
    assert model.seen == []


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_store_is_set_aside_and_begun_anew(path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    texts = filled(path)
    rewrite(path, DAMAGES[name])
    damaged = (path / DATA_FILE).read_bytes()
    with caplog.at_level(logging.WARNING), rf.CachedEmbedder(Model(dim=1000), path=path) as cached:
        assert_begun_anew(path, cached, caplog, texts)
    assert (path / f"{DATA_FILE}.damaged").read_bytes() == damaged


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("is_cached_by_sqlite", [True, False])
def test_damage_under_a_running_process_gives_no_wrong_vector_and_no_error(
    path: Path, name: str, is_cached_by_sqlite: bool
) -> None:
    texts = filled(path)
    with rf.CachedEmbedder(Model(dim=1000), 0, path) as cached:
        cached.embed(texts if is_cached_by_sqlite else texts[:1])
        rewrite(path, DAMAGES[name])
        for _ in range(3):
            assert np.array_equal(cached.embed([*texts, "new"]), vectors_of([*texts, "new"], 1000))
        assert cached.stats.store_rejected == 0
        assert cached.stats.store_hits >= 61  # the last time at the latest


def test_a_store_that_is_removed_or_replaced_under_a_running_process_is_begun_anew(path: Path) -> None:
    def replace(source: Path) -> None:
        (path / DATA_FILE).unlink()
        (source / DATA_FILE).rename(path / DATA_FILE)

    other = path.with_name("other")
    with rf.CachedEmbedder(Model(dim=1000), 0, other) as cached:
        cached.embed(["theirs"])
    with rf.CachedEmbedder(Model(dim=1000), 0, path) as cached:
        for round_number, remove in enumerate(
            [
                lambda: shutil.rmtree(path),
                (path / DATA_FILE).unlink,
                (path / f"{DATA_FILE}.lock").unlink,
                (path / f"{DATA_FILE}-journal").unlink,
                lambda: replace(other),
            ]
        ):
            texts = [f"{round_number} {i}" for i in range(5)]
            cached.embed(texts)
            remove()
            hits = cached.stats.store_hits
            for _ in range(2):
                assert np.array_equal(cached.embed(texts), vectors_of(texts, 1000))
            assert cached.stats.store_hits >= hits + 5
        cached.embed(["theirs"])
        assert cached.stats.store_rejected == 0


def test_a_damaged_store_that_can_only_be_read_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = filled(path)
    with rf.CachedEmbedder(Model(dim=1000), path=path):
        pass
    rewrite(path, DAMAGES["every page but the first"])
    damaged = (path / DATA_FILE).read_bytes()
    Denied(monkeypatch, path, errno.EROFS)
    with caplog.at_level(logging.WARNING), rf.CachedEmbedder(Model(dim=1000), 0, path) as cached:
        for _ in range(2):
            assert np.array_equal(cached.embed(texts), vectors_of(texts, 1000))
    assert "can only be read" in caplog.text
    assert len(caplog.records) == 2
    assert (path / DATA_FILE).read_bytes() == damaged


def test_another_programs_file_that_appears_under_a_running_process_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with rf.CachedEmbedder(Model(), 0, path) as cached, caplog.at_level(logging.WARNING):
        cached.embed(["a"])
        (path / DATA_FILE).unlink()
        with contextlib.closing(sqlite3.connect(path / DATA_FILE)) as database:
            database.execute("CREATE TABLE theirs (value)")
        before = (path / DATA_FILE).read_bytes()
        for _ in range(3):
            assert np.array_equal(cached.embed(["a", "b"]), vectors_of(["a", "b"]))
        assert cached.stats.store_rejected == 6
    assert (path / DATA_FILE).read_bytes() == before
    assert "another program" in caplog.text
    assert len(caplog.records) == 1


def test_a_process_that_holds_the_lock_for_ever_delays_one_call(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with rf.CachedEmbedder(Model(), 0, path) as cached, caplog.at_level(logging.WARNING):
        cached.embed(["a"])
        holder = os.open(path / f"{DATA_FILE}.lock", os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        for _ in range(100):  # a second each, would each wait
            assert np.array_equal(cached.embed(["a", "b"]), vectors_of(["a", "b"]))
        assert cached.stats.store_rejected == 200
        os.close(holder)
    assert len(caplog.records) == 1
    assert "another process has held its lock" in caplog.text


def test_the_event_loop_goes_on_while_another_process_holds_the_lock(path: Path) -> None:
    with rf.CachedEmbedder(AsyncModel(), 0, path) as cached:
        holder = os.open(path / f"{DATA_FILE}.lock", os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)

        async def run() -> int:
            task = asyncio.ensure_future(cached.aembed(["a"]))
            beats = 0
            while not task.done():
                await asyncio.sleep(0.01)
                beats += 1
            assert np.array_equal(task.result(), vectors_of(["a"]))
            return beats

        assert asyncio.run(run()) > 10
        os.close(holder)


def test_a_store_without_its_data_file_starts_anew(path: Path) -> None:
    rf.CachedEmbedder(Model(), path=path).close()
    (path / DATA_FILE).unlink()
    with rf.CachedEmbedder(Model(), path=path) as cached:
        assert np.array_equal(cached.embed(["a"]), vectors_of(["a"]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(path: Path) -> None:
    path.mkdir(mode=0o500)
    assert_unusable(path, "denied")


# --- places that can be read only


class Denied:
    """Makes the system refuse to open files of a folder for writing, as it refuses anybody but root."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, number: int) -> None:
        opened = os.open

        def open_it(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR) and Path(os.fsdecode(path)).parent == folder:
                raise OSError(number, os.strerror(number), os.fsdecode(path))
            return opened(path, flags, *arguments, **options)

        monkeypatch.setattr(os, "open", open_it)
        monkeypatch.setattr(os, "access", lambda path, mode: False)


def assert_answers_and_keeps_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store that held "a" and "b"."""
    before = {entry.name: entry.read_bytes() for entry in path.iterdir()}
    with caplog.at_level(logging.WARNING):
        model = Model()
        with rf.CachedEmbedder(model, path=path, capacity_bytes=0) as cached:
            for texts in (["a", "b"], ["b", "new"], ["new", "other"], ["a"]):
                assert np.array_equal(cached.embed(texts), vectors_of(texts))
            stats = cached.stats
    assert model.seen == ["new", "new", "other"]
    assert (stats.store_hits, stats.embedded, stats.store_rejected) == (4, 3, 3)
    assert len(caplog.records) == 1
    for word in (str(path), "stores nothing new"):
        assert word in caplog.text
    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("has_lock_file", [True, False])
def test_a_warm_store_that_cannot_be_written_answers_from_what_it_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, has_lock_file: bool
) -> None:
    with rf.CachedEmbedder(Model(), path=path) as cached:
        cached.embed(["a", "b"])
    if not has_lock_file:  # as in an image that the data file alone was copied to
        (path / f"{DATA_FILE}.lock").unlink()
    Denied(monkeypatch, path, number)
    assert_answers_and_keeps_nothing(path, caplog)


def test_a_store_that_cannot_be_written_and_holds_nothing_yet_is_empty(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    (path / DATA_FILE).touch()
    Denied(monkeypatch, path, errno.EROFS)
    with rf.CachedEmbedder(Model(), path=path) as cached:
        assert np.array_equal(cached.embed(["a"]), vectors_of(["a"]))


def test_where_there_is_no_store_and_none_can_be_made_it_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir()
    Denied(monkeypatch, path, errno.EROFS)
    assert_unusable(path, "Read-only file system", "can be written to")


def test_a_store_on_a_read_only_mount_answers_from_what_it_holds(
    tmp_path: Path, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with rf.CachedEmbedder(Model(), path=path) as cached:
        cached.embed(["a", "b"])
    mount = tmp_path / "mount"
    mount.mkdir()
    for command in (["mount", "--bind", path, mount], ["mount", "-o", "remount,bind,ro", mount]):
        if subprocess.run(command, capture_output=True).returncode != 0:
            subprocess.run(["umount", mount], capture_output=True)
            pytest.skip("this machine lets nobody mount")
    try:
        assert_answers_and_keeps_nothing(mount, caplog)
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, who gives up the right to write")
def test_a_store_of_another_user_answers_from_what_it_holds() -> None:
    # Not in pytest's own folder, whose parents other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        _check_store_of_another_user(Path(folder) / "store")


def _check_store_of_another_user(path: Path) -> None:
    program = f"""
import logging, os, sys
import routellm_fast as rf
from tests.support.fake_model import Model, vectors_of
path = {str(path)!r}
with rf.CachedEmbedder(Model(), path=path) as cached:
    cached.embed(["a", "b"])
for name in os.listdir(path):
    os.chmod(os.path.join(path, name), 0o444)
os.chmod(path, 0o555)
logging.basicConfig(stream=sys.stdout, format="%(message)s")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
model = Model()
with rf.CachedEmbedder(model, path=path) as cached:
    assert cached.embed(["a", "b", "c"]).tolist() == vectors_of(["a", "b", "c"]).tolist()
    assert model.seen == ["c"], model.seen
"""
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr
    assert "stores nothing new" in run.stdout
    assert "Permission denied" in run.stdout


def test_a_place_where_no_folder_can_be_made_is_refused() -> None:
    assert_unusable(Path("/proc/no/such/store"), "No such file")


def test_without_sqlite_the_error_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    for name in ("_store", "_store_file"):
        monkeypatch.delitem(sys.modules, f"routellm_fast.embedders.{name}", raising=False)
    assert_unusable(path, "this Python was built without sqlite3")
    assert not path.exists()
    assert rf.CachedEmbedder(Model()).embed(["a"]).shape == (1, DIM)
