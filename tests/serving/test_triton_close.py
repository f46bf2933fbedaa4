"""Closing the client beside calls: each call has its answer or one named error, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from routellm_fast.errors import TritonClosedError, TritonError
from routellm_fast.serving.triton import AsyncTritonRouter, TritonRouter
from tests.support.builders import mf_router
from tests.support.fake_triton import WIN_RATE, FakeTriton, fake_triton

pytest.importorskip("tritonclient.grpc")
pytest.importorskip("tritonclient.http")

# Far beyond what a call takes here; below the time-out of a call, so that none passes for an end by closing.
PATIENCE_S = 60.0
TIMEOUT_S = 300.0

CALLS: dict[str, Callable[[Any], Any]] = {
    "win_rate": lambda router: router.win_rate("a"),
    "win_rates": lambda router: router.win_rates(["a"] * 20),
    "route": lambda router: router.route("a"),
    "route_batch": lambda router: router.route_batch(["a"] * 20),
    "embeddings": lambda router: router.win_rates_from_embeddings(np.ones((1, 9), np.float32)),
    "threshold_for": lambda router: router.threshold_for(0.5),
    "health": lambda router: router.health(),
    "is_healthy": lambda router: router.is_healthy(),
}


@pytest.fixture(params=["http", "grpc"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeTriton]:
    with fake_triton(request.param) as fake:
        yield fake


def joined(threads: list[threading.Thread]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_a_closed_client_says_so_and_stays_closed(server: FakeTriton, asked_before: bool, fallback: bool) -> None:
    router = TritonRouter(server.url, **({"fallback": mf_router()} if fallback else {}))
    if asked_before:
        assert router.win_rate("a") == WIN_RATE
    for _ in range(3):
        router.close()
    for call in (*CALLS.values(), lambda closed: closed.model_pair):
        with pytest.raises(TritonClosedError, match="this client was closed"):
            call(router)
    assert issubclass(TritonClosedError, TritonError)
    assert issubclass(TritonClosedError, RuntimeError)
    assert router.counts.fallbacks == 0
    with pytest.raises(TritonClosedError), router:
        router.win_rate("a")


@pytest.mark.parametrize("name", ["win_rate", "route_batch", "health"])
@pytest.mark.parametrize("fallback", [False, True])
def test_a_call_that_waits_is_cut(server: FakeTriton, name: str, fallback: bool) -> None:
    settings = {"fallback": mf_router()} if fallback else {}
    router = TritonRouter(server.url, timeout_s=TIMEOUT_S, **settings)
    assert router.win_rate("a") == WIN_RATE
    server.answers.clear()
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            router.health(TIMEOUT_S) if name == "health" else CALLS[name](router)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is counted
            caught.append(error)

    thread = threading.Thread(target=ask)
    assert server.waits.acquire(timeout=PATIENCE_S)
    thread.start()
    assert server.waits.acquire(timeout=PATIENCE_S)
    router.close()
    assert joined([thread])
    assert [type(error) for error in caught] == [TritonClosedError]
    assert "while the call waited" in str(caught[0])


def test_hammered_from_many_threads_every_call_ends_by_an_answer_or_by_name(server: FakeTriton) -> None:
    server.delay_s = 0.002
    for number in range(12):
        router = TritonRouter(server.url, timeout_s=TIMEOUT_S)
        ends: Counter[str] = Counter()
        start = threading.Barrier(11)

        def ask(router: TritonRouter = router, ends: Counter[str] = ends, start: threading.Barrier = start) -> None:
            start.wait()
            while True:
                try:
                    assert router.win_rates(["a"] * 9).tolist() == [WIN_RATE] * 9
                    ends["answers"] += 1
                except TritonClosedError:
                    ends["closed"] += 1
                    return
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is counted
                    ends[repr(error)] += 1
                    return

        def close(
            router: TritonRouter = router, ends: Counter[str] = ends, start: threading.Barrier = start, s: int = number
        ) -> None:
            start.wait()
            time.sleep(0.004 * s)  # before the first connection, amid the first answers, and later
            router.close()
            ends["closes"] += 1

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
        threads += [threading.Thread(target=close, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert joined(threads), ends
        del ends["answers"]
        assert ends == {"closed": 8, "closes": 3}
        assert not any(thread.name == "routellm-fast triton" for thread in threading.enumerate())


def test_hammered_in_asyncio_every_call_ends_by_an_answer_or_by_name(server: FakeTriton) -> None:
    server.delay_s = 0.002

    async def once(number: int) -> Counter[str]:
        router = AsyncTritonRouter(server.url, timeout_s=TIMEOUT_S)
        ends: Counter[str] = Counter()

        async def ask() -> None:
            while True:
                try:
                    assert (await router.win_rates(["a"] * 9)).tolist() == [WIN_RATE] * 9
                except TritonClosedError:
                    ends["closed"] += 1
                    # The task itself was not cancelled: it may go on.
                    await asyncio.sleep(0)
                    ends["went on"] += 1
                    return

        tasks = [asyncio.ensure_future(ask()) for _ in range(8)]
        await asyncio.sleep(0.004 * number)
        await asyncio.gather(*(router.close() for _ in range(3)))
        await asyncio.gather(*tasks)
        with pytest.raises(TritonClosedError):
            await router.route("a")
        return ends

    async def all_of_them() -> list[Counter[str]]:
        return [await asyncio.wait_for(once(number), PATIENCE_S) for number in range(12)]

    assert asyncio.run(all_of_them()) == [{"closed": 8, "went on": 8}] * 12


def test_a_caller_that_is_cancelled_stays_cancelled(server: FakeTriton) -> None:
    server.answers.clear()

    async def cancelled() -> None:
        router = AsyncTritonRouter(server.url, timeout_s=TIMEOUT_S)
        task = asyncio.ensure_future(router.win_rate("a"))
        while not server.waits.acquire(blocking=False):
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(router.close(), PATIENCE_S)

    asyncio.run(cancelled())
