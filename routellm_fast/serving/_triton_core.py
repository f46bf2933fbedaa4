"""Asking some replicas of a Triton server: chunks, deadlines, retries, shared memory and counts."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.decision import Decision
from routellm_fast.errors import (
    InvalidArgumentError,
    InvalidEmbeddingError,
    TritonAnswerError,
    TritonError,
    TritonRefusedError,
    TritonUnavailableError,
)
from routellm_fast.extras import require
from routellm_fast.serving._triton_replica import EXTRA, Replica, ReplicaFault
from routellm_fast.serving.triton_protocol import (
    EMBEDDING,
    IS_STRONG,
    MODEL,
    PROMPT,
    THRESHOLD,
    WIN_RATE,
    Served,
    float32_threshold,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DECISION: Final = (WIN_RATE, IS_STRONG, MODEL)
# Triton's HTTP server refuses above 64 MiB.
_MAX_REQUEST_BYTES: Final = 16 << 20
# Their answers stay far below what a client takes (MOST_ANSWER_BYTES), whatever the server says it serves at once.
_MAX_REQUEST_ROWS: Final = 100_000
_CONCURRENT_CHUNKS: Final = 8
_AnyT = TypeVar("_AnyT")
_PartT = TypeVar("_PartT")
_REGIONS = itertools.count()


@dataclass(slots=True)
class TritonCounts:
    """How the calls so far have ended.

    Attributes:
        requests: Calls of a public method that routes or scores.
        retries: Inferences that were tried again.
        fallbacks: Calls that the fallback answered.
        failures: Calls that raised.
    """

    requests: int = 0
    retries: int = 0
    fallbacks: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """Which model on which servers is asked, and within which limits; see AsyncTritonRouter.

    Attributes:
        urls: URLs of the replicas.
        model: The model's name.
        version: The model's version; "" for the server's choice.
        timeout_s: Most seconds that a call takes, all its tries together.
        tries: How often an inference is tried, on all replicas together.
        cool_down_s: For how many seconds a replica that failed is asked last.
        fails_fast: Whether to give up at once where all replicas have just failed.
        shared_memory_from_bytes: Size in bytes from which embeddings are passed in shared memory; None for never.
    """

    urls: tuple[str, ...]
    model: str
    version: str
    timeout_s: float
    tries: int
    cool_down_s: float
    fails_fast: bool
    shared_memory_from_bytes: int | None


class TritonCore:
    """Win rates and decisions by a server. Belongs to one event loop."""

    def __init__(self, target: Target) -> None:
        """Connect to nothing yet. Raises InvalidArgumentError for a bad URL and MissingExtraError."""
        self._target = target
        self._replicas = [Replica(url) for url in target.urls]
        self._turn = itertools.count()
        self._served: Served | None = None
        self.retries = 0

    @property
    def known(self) -> Served | None:
        """The model's configuration, where it has been read."""
        return self._served

    async def served(self, deadline: float | None = None) -> Served:
        """Return the model's configuration, which is read once, by a time of the loop's clock. Raises as win_rates."""
        if self._served is None:
            model = self._target.model

            async def read(replica: Replica) -> Served:
                return Served.of(await replica.config(model, self._target.version), model)

            self._served = await self._tried(read, self._deadline() if deadline is None else deadline)
        return self._served

    async def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates.

        Raises:
            TritonUnavailableError: No replica answered in time.
            TritonRefusedError: The server refuses the request.
            TritonAnswerError: What answers is no router.
        """
        answers = await self._of_prompts(prompts, None)
        return _joined(_win_rates(answer) for answer in answers)

    async def decisions(self, prompts: Sequence[str], threshold: float) -> list[Decision]:
        """Return the server's decision of each prompt. Raises as win_rates."""
        answers = await self._of_prompts(prompts, threshold)
        return [decision for answer in answers for decision in _decisions(answer, threshold)]

    async def win_rates_from_embeddings(self, embeddings: FloatArray) -> FloatArray:
        """Return (n,) float32 win rates of (n, dim) float32 embeddings. Raises as win_rates."""
        deadline = self._deadline()
        served = await self.served(deadline)
        if served.dim is None:
            raise InvalidArgumentError(f"the model {self._target.model!r} takes no embeddings: send prompts")
        if embeddings.ndim != 2 or embeddings.shape[1] != served.dim:
            raise InvalidEmbeddingError(f"expected embeddings of shape (n, {served.dim}), found {embeddings.shape}")
        rows = min(served.max_batch_size, _MAX_REQUEST_ROWS, max(1, _MAX_REQUEST_BYTES // (4 * served.dim)))
        starts = range(0, len(embeddings), rows)
        limit = self._target.shared_memory_from_bytes
        async with AsyncExitStack() as stack:
            region = None
            if limit is not None and embeddings.nbytes >= max(limit, 1):
                region = await stack.enter_async_context(_Region(embeddings))

            async def ask(start: int) -> dict[str, Any]:
                chunk = embeddings[start : start + rows]
                return await self._inferred({EMBEDDING: chunk}, (WIN_RATE,), deadline, region, start)

            answers = await self._gathered(ask, starts)
        counts = (len(embeddings[start : start + rows]) for start in starts)
        return _joined(_win_rates(_checked(answer, n)) for answer, n in zip(answers, counts, strict=True))

    async def health(self, timeout_s: float) -> dict[str, str]:
        """Return of each replica what is wrong with it, "" for nothing: each runs an inference."""

        async def check(replica: Replica) -> str:
            try:
                return await asyncio.wait_for(self._probe(replica), timeout_s)
            except (asyncio.TimeoutError, TimeoutError):
                return f"no answer in {timeout_s:g} s"
            except (ReplicaFault, TritonError) as error:
                return str(error) or type(error).__name__

        reasons = await asyncio.gather(*(check(replica) for replica in self._replicas))
        return dict(zip(self._target.urls, reasons, strict=True))

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(replica.close() for replica in self._replicas))

    async def _probe(self, replica: Replica) -> str:
        model, version = self._target.model, self._target.version
        served = Served.of(await replica.config(model, version), model)
        # Never the same twice, or the response cache of a server whose model is gone would answer.
        unique = f"{os.getpid()} {time.time_ns()}"
        if served.takes_prompts:
            tensors: dict[str, NDArray[Any]] = {PROMPT: _bytes([unique])}
        else:
            row = np.random.default_rng(time.time_ns()).normal(size=(1, served.dim or 1))
            tensors = {EMBEDDING: row.astype(np.float32)}
        _win_rates(_checked(await replica.infer(model, version, tensors, (WIN_RATE,)), 1))
        return ""

    async def _of_prompts(self, prompts: Sequence[str], threshold: float | None) -> list[dict[str, Any]]:
        if not prompts:
            return []
        deadline = self._deadline()
        served = await self.served(deadline)
        if not served.takes_prompts:
            raise InvalidArgumentError(f"the model {self._target.model!r} takes no prompts: send embeddings")

        async def ask(values: NDArray[Any]) -> dict[str, Any]:
            tensors = {PROMPT: values}
            if threshold is not None:
                tensors[THRESHOLD] = np.full((len(values), 1), float32_threshold(threshold))
            outputs = (WIN_RATE,) if threshold is None else _DECISION
            return _checked(await self._inferred(tensors, outputs, deadline), len(values))

        return await self._gathered(ask, _chunks(_bytes(prompts), min(served.max_batch_size, _MAX_REQUEST_ROWS)))

    async def _inferred(
        self,
        tensors: dict[str, NDArray[Any]],
        outputs: Sequence[str],
        deadline: float,
        region: _Region | None = None,
        first_row: int = 0,
    ) -> dict[str, Any]:
        model, version = self._target.model, self._target.version

        async def ask(replica: Replica) -> dict[str, Any]:
            if region is not None and await region.is_known_to(replica):
                place = (EMBEDDING, region.name, region.offset(first_row), tensors[EMBEDDING].shape)
                # A server that was restarted has forgotten the region.
                with suppress(TritonRefusedError, ReplicaFault):
                    return await replica.infer(model, version, {}, outputs, place)
            return await replica.infer(model, version, tensors, outputs)

        return await self._tried(ask, deadline)

    @staticmethod
    async def _gathered(ask: Callable[[_PartT], Awaitable[_AnyT]], parts: Iterable[_PartT]) -> list[_AnyT]:
        # Of one call: a large batch leaves the server room for others.
        turns = asyncio.Semaphore(_CONCURRENT_CHUNKS)

        async def limited(part: _PartT) -> _AnyT:
            async with turns:
                return await ask(part)

        tasks = [asyncio.ensure_future(limited(part)) for part in parts]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _tried(self, ask: Callable[[Replica], Awaitable[_AnyT]], deadline: float) -> _AnyT:
        clock = asyncio.get_running_loop().time
        replicas = self._order(clock())
        failures: list[str] = []
        for number, replica in enumerate(replicas):
            remaining_s = deadline - clock()
            if remaining_s <= 0:
                break
            if number:
                self.retries += 1
            # A replica that hangs leaves the others their time.
            share_s = remaining_s / (len(replicas) - number)
            try:
                answer = await asyncio.wait_for(ask(replica), share_s)
            except (asyncio.TimeoutError, TimeoutError):
                failures.append(f"{replica.url}: no answer in {share_s:.3g} s")
            except ReplicaFault as error:
                failures.append(f"{replica.url}: {error}")
            except TritonRefusedError:
                self._served = None  # the model may be another since it was loaded again
                raise
            else:
                replica.failed_at_s = None
                return answer
            replica.failed_at_s = clock()
        what = "; ".join(dict.fromkeys(failures)) or "all replicas failed a moment ago"
        raise TritonUnavailableError(
            f"no replica of the model {self._target.model!r} answered in {self._target.timeout_s:g} s: {what}"
        )

    def _order(self, now_s: float) -> list[Replica]:
        """Return the replicas to try: in turn, those that failed a moment ago last."""
        turn = next(self._turn) % len(self._replicas)
        rotated = self._replicas[turn:] + self._replicas[:turn]
        cooling = [
            replica
            for replica in rotated
            if replica.failed_at_s is not None and now_s - replica.failed_at_s < self._target.cool_down_s
        ]
        if self._target.fails_fast and len(cooling) == len(rotated):
            return []
        ordered = [replica for replica in rotated if replica not in cooling] + cooling
        return [ordered[number % len(ordered)] for number in range(self._target.tries)]

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._target.timeout_s


class _Region:
    """Embeddings in system shared memory, for one call."""

    def __init__(self, embeddings: FloatArray) -> None:
        self._embeddings = embeddings
        self.name = f"routellm_fast_{os.getpid()}_{next(_REGIONS)}"
        self._known: dict[str, bool] = {}
        self._replicas: list[Replica] = []
        self._handle: Any = None  # None where there is no room for the region

    async def __aenter__(self) -> _Region:
        self._memory = require("tritonclient.utils.shared_memory", EXTRA)
        try:
            self._handle = self._memory.create_shared_memory_region(self.name, f"/{self.name}", self._embeddings.nbytes)
        except (OSError, self._memory.SharedMemoryException):
            return self  # there is no shared memory here: the values are sent
        try:
            _reserve(self.name, self._embeddings.nbytes)
            self._memory.set_shared_memory_region(self._handle, [self._embeddings])
        except OSError:
            self._destroy()
        except BaseException:
            self._destroy()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self._replicas:
            with suppress(ReplicaFault, TritonError, asyncio.TimeoutError):
                await asyncio.wait_for(replica.unregister(self.name), 1.0)
        self._destroy()

    def _destroy(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._memory.destroy_shared_memory_region(handle)

    def offset(self, row: int) -> int:
        return row * int(self._embeddings.shape[1]) * 4

    async def is_known_to(self, replica: Replica) -> bool:
        """Register where that was not done; False without room, or where the server cannot see this memory."""
        if self._handle is None:
            return False
        async with replica.lock:
            if replica.url not in self._known:
                try:
                    await replica.register(self.name, f"/{self.name}", self._embeddings.nbytes)
                except (ReplicaFault, TritonError):
                    self._known[replica.url] = False
                else:
                    self._known[replica.url] = True
                    self._replicas.append(replica)
        return self._known[replica.url]


def _reserve(name: str, byte_count: int) -> None:
    """Raise OSError where shared memory has no room: writing to it would end the process by SIGBUS."""
    file = os.open(f"/dev/shm/{name}", os.O_RDWR)  # noqa: S108 - a region of our own, which was made just now
    try:
        os.posix_fallocate(file, 0, byte_count)
    finally:
        os.close(file)


def _bytes(texts: Sequence[str]) -> NDArray[Any]:
    values = np.empty((len(texts), 1), np.object_)
    # Lone surrogates are read as U+FFFD, as everywhere.
    values[:, 0] = [text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode() for text in texts]
    return values


def _chunks(values: NDArray[Any], most_rows: int) -> Iterable[NDArray[Any]]:
    start = size = 0
    for row, value in enumerate(values[:, 0]):
        if row > start and (row - start == most_rows or size + len(value) > _MAX_REQUEST_BYTES):
            yield values[start:row]
            start, size = row, 0
        size += len(value)
    yield values[start:]


def _checked(answer: dict[str, Any], count: int) -> dict[str, Any]:
    for name, values in answer.items():
        if values is None or values.shape != (count, 1):
            found = None if values is None else values.shape
            raise TritonAnswerError(
                f"the server's {name} has the shape {found}, expected ({count}, 1): it serves no router"
            )
    return answer


def _win_rates(answer: dict[str, Any]) -> FloatArray:
    values: FloatArray = answer[WIN_RATE].reshape(-1)
    # Written so that NaN fails too.
    if values.dtype != np.float32 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise TritonAnswerError(
            f"the server's {WIN_RATE} are {values.dtype} in [{values.min()}, {values.max()}]: it serves no router"
        )
    return values


def _decisions(answer: dict[str, Any], threshold: float) -> Iterable[Decision]:
    are_strong, models = answer[IS_STRONG].reshape(-1), answer[MODEL].reshape(-1)
    if are_strong.dtype != np.bool_:
        raise TritonAnswerError(f"the server's {IS_STRONG} are {are_strong.dtype}, expected bool: it serves no router")
    for win_rate, is_strong, model in zip(_win_rates(answer).tolist(), are_strong.tolist(), models, strict=True):
        yield Decision(_name(model), win_rate, threshold, is_strong)


def _name(model: Any) -> str:
    try:
        return model.decode() if isinstance(model, bytes) else str(model)
    except UnicodeDecodeError as error:
        raise TritonAnswerError(f"the server's {MODEL} is no UTF-8: it serves no router") from error


def _joined(parts: Iterable[FloatArray]) -> FloatArray:
    return np.concatenate([np.empty(0, np.float32), *parts])
