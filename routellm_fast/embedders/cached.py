"""An embedder that keeps the vectors of another one in memory and on disk."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import FloatArray
from routellm_fast.embedders._flights import Flights, split_landed
from routellm_fast.embedders.base import Embedder, KnowsExcerpts, Stored, checked_dim, checked_embedder
from routellm_fast.embedders.stored import store_embedder
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError, InvalidEmbeddingError
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    # Imported where they are used: importing the package must stay cheap.
    import asyncio
    from concurrent.futures import Future

    from routellm_fast.embedders._store import EmbeddingStore

_KEY_BYTES = 16
# Vectors that are looked up or kept at a time: 6 MB of 1,536 values each.
_PIECE = 1024


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters of a CachedEmbedder since it was made (in a forked child: since the fork).

    hits + store_hits + misses is the number of texts asked for. misses can be larger than embedded: equal texts in a
    batch, and texts that another call is embedding at that moment, are embedded once.
    """

    hits: int  # texts answered from memory
    store_hits: int  # texts answered from the store
    misses: int  # texts found in neither
    embedded: int  # texts that were passed to the wrapped embedder
    evictions: int  # vectors dropped from memory to make room
    entries: int  # vectors in memory
    bytes_used: int  # bytes of memory in use, overhead included
    capacity_bytes: int  # the most bytes of memory that may be in use
    store_rejected: int  # vectors that the store could not keep, as it was full, failed, or is read-only
    store_damaged: int  # vectors that were found damaged in the store, and embedded again


@runtime_checkable
class _AsyncEmbedder(Protocol):
    def aembed(self, texts: Sequence[str]) -> Awaitable[FloatArray]: ...


class CachedEmbedder:
    """Wraps an embedder and keeps its vectors: in memory, and on disk if a path is given. Thread-safe.

    It is an embedder itself, with the name, dim and fingerprint of the wrapped one, and returns the same vectors to the
    bit, in arrays that the caller owns. Equal texts in a batch are embedded once, and so are equal texts in concurrent
    calls, among threads and among the tasks of one event loop. If the wrapped embedder fails, nothing is kept, and a
    call that waited for the failed one calls the embedder itself.

    Memory holds at most `capacity_bytes`; the vectors that were used least recently are dropped first. A key is a
    BLAKE2b digest, 128 bits, of the embedder's fingerprint and the text: several routers can share a store without
    mixing vectors of different models, and neither memory nor store holds a text. The store is a folder with an SQLite
    file that threads and processes share; killing a process does not damage it. It is only a cache: where the file is
    damaged, also under a running process, it is set aside with a WARNING, a new one is begun, and embeddings are
    computed again. (A power cut may damage it, as nothing is forced to disk.) A checksum guards each vector. The store
    never drops a vector to make room: a full one stops growing, and embedding goes on. A store that cannot be written
    to, such as one on a read-only mount, answers from what it holds, logs one WARNING and keeps nothing new.

    A forked child starts with empty memory, because a thread of the parent may have been changing it during the fork.
    A cache that was pickled and read again also starts with empty memory, and uses the same store; a deep copy is the
    cache itself.
    """

    def __init__(
        self,
        embedder: Embedder,
        capacity_bytes: int = 256 << 20,
        path: str | os.PathLike[str] | None = None,
        *,
        store_capacity_bytes: int = 4 << 30,
    ) -> None:
        """Wrap an embedder.

        Args:
            embedder: Any embedder. If it has no `aembed`, the `aembed` of this class runs its `embed` in a thread.
            capacity_bytes: The most bytes of memory, overhead included; 0 keeps nothing in memory. A vector of 1,536
                values takes 6.2 kB.
            path: Folder of the store, made if missing. None keeps vectors in memory only.
            store_capacity_bytes: The most bytes of the store's file, at least 1 MiB. Where several caches share the
                folder, now or earlier, the largest value counts: to lower it, delete the folder.

        Raises:
            TypeError: The embedder is none.
            InvalidArgumentError: The embedder's dim is no integer of at least 1, capacity_bytes is negative, or
                store_capacity_bytes is below 1 MiB.
            EmbedderUnavailableError: The path cannot be used; the text says why.
        """
        if capacity_bytes < 0:
            raise InvalidArgumentError(f"capacity_bytes must not be negative, found {capacity_bytes}")
        if store_capacity_bytes < 1 << 20:
            raise InvalidArgumentError(f"store_capacity_bytes must be at least 1 MiB, found {store_capacity_bytes}")
        self._embedder = checked_embedder(embedder)
        self._name = embedder.name
        self._dim = checked_dim(embedder.dim)
        self._fingerprint = embedder.fingerprint
        self._capacity_bytes = capacity_bytes
        self._path = None if path is None else Path(path)
        self._store_capacity_bytes = store_capacity_bytes
        # BLAKE2b takes keys of at most 64 bytes; a fingerprint may be longer.
        key = hashlib.sha256(self._fingerprint.encode("utf-8", "surrogatepass")).digest()
        self._hasher = hashlib.blake2b(digest_size=_KEY_BYTES, key=key)
        self._state = _State(self._dim, capacity_bytes, self._open_store())

    @property
    def embedder(self) -> Embedder:
        """The wrapped embedder."""
        return self._embedder

    @property
    def name(self) -> str:
        """The wrapped embedder's name."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of values in a vector."""
        return self._dim

    @property
    def fingerprint(self) -> str:
        """The wrapped embedder's fingerprint, as a cache changes no vector."""
        return self._fingerprint

    @property
    def stats(self) -> CacheStats:
        """The counters and sizes at this moment."""
        state = self._current_state()
        native = state.cache.stats()
        store = state.store
        with state.lock:
            return CacheStats(
                hits=state.hits,
                store_hits=state.store_hits,
                misses=state.texts - state.hits - state.store_hits,
                embedded=state.embedded,
                evictions=native["evictions"],
                entries=native["entries"],
                bytes_used=native["bytes_used"],
                capacity_bytes=self._capacity_bytes,
                store_rejected=store.rejected if store else 0,
                store_damaged=store.damaged if store else 0,
            )

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 from memory, from the store, or from the wrapped embedder.

        Raises:
            TypeError: An element is not a str.
            InvalidEmbeddingError: The wrapped embedder returned another shape or a value that is not finite.
            EmbeddingError: The wrapped embedder failed; its own exceptions pass through unchanged.
        """
        state = self._current_state()
        out, batch = self._look_up(state, texts)
        if batch is not None:
            mine, others = state.flights.claim(batch.missing)
            vectors: dict[bytes, FloatArray] = {}
            fresh: dict[bytes, FloatArray] = {}
            try:
                vectors = self._recall(state, batch, mine)
                unknown = [key for key in mine if key not in vectors]
                if unknown:
                    fresh = self._keep(state, unknown, self._embedder.embed(batch.texts_of(unknown)))
                    vectors |= fresh
            finally:
                state.flights.land(mine, vectors)
            if state.store:
                state.store.write(fresh)

            landed, lost = split_landed(others)
            if lost:
                fresh = self._keep(state, lost, self._embedder.embed(batch.texts_of(lost)))
                if state.store:
                    state.store.write(fresh)
                landed |= fresh
            batch.fill(vectors | landed)
        return out

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether the wrapped embedder reads all of it; True where it does not say."""
        inner = self._embedder
        return inner.reads_whole(texts) if isinstance(inner, KnowsExcerpts) else [True] * len(texts)

    def holds(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether memory or store has its vector. Embeds nothing and counts nothing.

        Raises:
            TypeError: An element is not a str.
        """
        state = self._current_state()
        found: list[bool] = []
        for batch in _pieces([self._key_of(text) for text in check_texts(texts)]):
            rows = np.empty((len(batch), self._dim), dtype=np.float32)
            hit = state.cache.get_many(b"".join(batch), rows).tobytes()
            missing = [key for key, is_hit in zip(batch, hit, strict=True) if not is_hit]
            stored = state.store.read(missing) if state.store and missing else {}
            found += [bool(is_hit) or key in stored for key, is_hit in zip(batch, hit, strict=True)]
        return found

    def keep(self, texts: Sequence[str], vectors: Any) -> None:
        """Keep vectors that the wrapped embedder gave elsewhere, such as published ones: they are not asked for again.

        Nothing shows whether they are that embedder's. Memory keeps what it has room for, the store all.

        Args:
            texts: n texts; of equal ones the last counts.
            vectors: (n, dim) real numbers, kept as float32. An array on disk (np.memmap) is read piece by piece.

        Raises:
            TypeError: An element is not a str.
            InvalidEmbeddingError: The vectors have another shape, or a value is not finite.
        """
        state = self._current_state()
        keys = [self._key_of(text) for text in check_texts(texts)]
        if len(vectors) != len(keys):
            raise InvalidEmbeddingError(f"there are {len(vectors)} vectors for {len(keys)} texts: expected one each")
        start = 0
        for batch in _pieces(keys):
            end = start + len(batch)
            rows = check_vectors(vectors[start:end], len(batch), self._dim, "whoever embedded the texts")
            fresh = dict(zip(batch, rows, strict=True))
            state.remember(fresh)
            if state.store:
                state.store.write(fresh)
            start = end

    async def aembed(self, texts: Sequence[str]) -> FloatArray:
        """Return and raise what `embed` does, without blocking the event loop."""
        import asyncio

        state = self._current_state()
        out, batch = self._look_up(state, texts)
        if batch is not None:
            flights = state.flights_of(asyncio.get_running_loop())
            mine, others = flights.claim(batch.missing)
            vectors: dict[bytes, FloatArray] = {}
            fresh: dict[bytes, FloatArray] = {}
            try:
                if state.store:  # which may wait for another process that writes to it
                    vectors = await asyncio.to_thread(self._recall, state, batch, mine)
                else:
                    vectors = self._recall(state, batch, mine)
                unknown = [key for key in mine if key not in vectors]
                if unknown:
                    fresh = self._keep(state, unknown, await self._ask(batch.texts_of(unknown)))
                    vectors |= fresh
            finally:
                flights.land(mine, vectors)
            if state.store and fresh:
                await asyncio.to_thread(state.store.write, fresh)

            if others:
                # Unlike await, wait() does not cancel the futures when this call is cancelled: others wait for them
                # too.
                await asyncio.wait(others.values())
            landed, lost = split_landed(others)
            if lost:
                fresh = self._keep(state, lost, await self._ask(batch.texts_of(lost)))
                if state.store:
                    await asyncio.to_thread(state.store.write, fresh)
                landed |= fresh
            batch.fill(vectors | landed)
        return out

    def stored(self) -> Stored:
        """Return what a router directory keeps of the wrapped embedder: a cache is not part of a router."""
        return store_embedder(self._embedder)

    def close(self) -> None:
        """Close the store. The cache in memory goes on working, and the wrapped embedder stays open."""
        if self._state.store:
            self._state.store.close()

    def __enter__(self) -> CachedEmbedder:
        """Return this embedder; leaving closes it."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(CachedEmbedder, store_capacity_bytes=self._store_capacity_bytes)
        return make, (self._embedder, self._capacity_bytes, self._path)

    def __copy__(self) -> CachedEmbedder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CachedEmbedder:
        return self

    def __repr__(self) -> str:
        """The wrapped embedder, capacity and path."""
        path = None if self._path is None else str(self._path)
        return f"CachedEmbedder({self._embedder!r}, capacity_bytes={self._capacity_bytes}, path={path!r})"

    def _current_state(self) -> _State:
        state = self._state
        if state.pid != os.getpid():
            store = self._open_store(after_fork=True)
            state = self._state = _State(self._dim, self._capacity_bytes, store)
        return state

    def _open_store(self, *, after_fork: bool = False) -> EmbeddingStore | None:
        if self._path is None:
            return None
        try:
            from routellm_fast.embedders._store import EmbeddingStore, reopen
        except ModuleNotFoundError as error:
            raise EmbedderUnavailableError(
                f"the embedding store at {self._path} cannot be used: this Python was built without {error.name}. "
                "Install one with it, or give no path."
            ) from error

        open_it = reopen if after_fork else EmbeddingStore
        store = open_it(self._path, dim=self._dim, capacity_bytes=self._store_capacity_bytes)
        if store is not None:
            weakref.finalize(self, store.close)
        return store

    def _key_of(self, text: str) -> bytes:
        hasher = self._hasher.copy()
        hasher.update(text.encode("utf-8", "surrogatepass"))
        return hasher.digest()

    def _look_up(self, state: _State, texts: Sequence[str]) -> tuple[FloatArray, _Batch | None]:
        """Return the answer, and the part that memory did not hold; None where it held all."""
        items = check_texts(texts)
        keys = [self._key_of(text) for text in items]
        out = np.empty((len(items), self._dim), dtype=np.float32)
        hit = state.cache.get_many(b"".join(keys), out).tobytes()
        with state.lock:
            state.texts += len(items)
            state.hits += sum(hit)
        if 0 not in hit:
            return out, None
        batch = _Batch(items, out)
        for row, found in enumerate(hit):
            if not found:
                batch.missing.setdefault(keys[row], []).append(row)
        return out, batch

    def _recall(self, state: _State, batch: _Batch, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        """Return the vectors that memory holds by now (another call may have ended since), or that the store holds."""
        if not keys:
            return {}
        rows = np.empty((len(keys), self._dim), dtype=np.float32)
        hit = state.cache.get_many(b"".join(keys), rows).tobytes()
        found = {key: rows[row] for row, key in enumerate(keys) if hit[row]}
        hits = batch.count(found)
        stored: dict[bytes, FloatArray] = {}
        if state.store and len(found) < len(keys):
            stored = state.store.read([key for key in keys if key not in found])
            state.remember(stored)
        with state.lock:
            state.hits += hits
            state.store_hits += batch.count(stored)
        return found | stored

    def _keep(self, state: _State, keys: Sequence[bytes], answer: Any) -> dict[bytes, FloatArray]:
        """Check the vectors from the wrapped embedder and keep them in memory."""
        # A copy, as an embedder may use its array again while other calls still read these vectors.
        vectors = check_vectors(answer, len(keys), self._dim, self._name).copy()
        with state.lock:
            state.embedded += len(keys)
        fresh = dict(zip(keys, vectors, strict=True))
        state.remember(fresh)
        return fresh

    async def _ask(self, texts: list[str]) -> FloatArray:
        import asyncio

        if isinstance(self._embedder, _AsyncEmbedder):
            return await self._embedder.aembed(texts)
        return await asyncio.to_thread(self._embedder.embed, texts)


def _pieces(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[start : start + _PIECE] for start in range(0, len(keys), _PIECE))


class _Batch:
    """The part of a call's answer that memory did not hold: row numbers by key, in the order of first appearance."""

    def __init__(self, texts: list[str], out: FloatArray) -> None:
        self._out = out
        self.missing: dict[bytes, list[int]] = {}
        self._texts = texts

    def texts_of(self, keys: Iterable[bytes]) -> list[str]:
        return [self._texts[self.missing[key][0]] for key in keys]

    def count(self, keys: Iterable[bytes]) -> int:
        return sum(len(self.missing[key]) for key in keys)

    def fill(self, vectors: Mapping[bytes, FloatArray]) -> None:
        for key, rows in self.missing.items():
            self._out[rows] = vectors[key]


class _State:
    """The part of a CachedEmbedder that changes, and that processes do not share."""

    def __init__(self, dim: int, capacity_bytes: int, store: EmbeddingStore | None) -> None:
        from concurrent.futures import Future

        self.pid = os.getpid()
        self.cache = _core.EmbeddingCache(dim, capacity_bytes)
        self.store = store
        self.flights: Flights[Future[FloatArray | None]] = Flights(Future)
        self.lock = threading.Lock()
        self.texts = 0
        self.hits = 0
        self.store_hits = 0
        self.embedded = 0
        # Tasks wait only for tasks of their own loop: a thread that waited for one would block the loop that must run
        # it.
        self._loop_flights: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, Flights[asyncio.Future[FloatArray | None]]
        ] = weakref.WeakKeyDictionary()

    def flights_of(self, loop: asyncio.AbstractEventLoop) -> Flights[asyncio.Future[FloatArray | None]]:
        with self.lock:
            flights = self._loop_flights.get(loop)
            if flights is None:
                flights = self._loop_flights[loop] = Flights(loop.create_future)
            return flights

    def remember(self, vectors: Mapping[bytes, FloatArray]) -> None:
        if vectors:
            self.cache.put_many(b"".join(vectors), np.stack(list(vectors.values())))
