"""A router that Triton Inference Server runs, with the face of a local one.

`python -m routellm_fast.serving.triton --check URL` runs one inference and exits with 0 where that worked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Final, TypeVar

from routellm_fast.arrays import FloatArray
from routellm_fast.decision import Decision, ModelPair, NoText
from routellm_fast.errors import RouteLLMError, TritonClosedError
from routellm_fast.serving._async_router import HEALTH_TIMEOUT_S, AsyncTritonRouter
from routellm_fast.serving._triton_core import TritonCounts
from routellm_fast.serving.triton_protocol import DEFAULT_NAME
from routellm_fast.shown import shown

__all__ = ["AsyncTritonRouter", "TritonCounts", "TritonRouter", "main"]

_CLOSED: Final = "this client was closed: make another one for further calls"
_AnyT = TypeVar("_AnyT")


class TritonRouter:
    """AsyncTritonRouter for code without asyncio. Thread-safe: an event loop in a thread of its own does the work.

    After `close`, and in calls that it cuts, every method raises TritonClosedError; the fallback does not answer these.
    A process that was forked has a loop and connections of its own.
    """

    kind: Final = "triton"

    def __init__(self, urls: str | Sequence[str], **settings: Any) -> None:
        """Connect to nothing yet; arguments and errors as AsyncTritonRouter."""
        self._urls, self._settings = urls, settings
        # Taken again by a signal handler or finalizer that closes the client while its thread hands a call over.
        self._lock = threading.RLock()
        self._router = self._make()  # its faults are raised here
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._process = os.getpid()

    @property
    def counts(self) -> TritonCounts:
        """How many calls so far were answered, and how, in this process."""
        return self._router.counts

    @property
    def model_pair(self) -> ModelPair:
        """The models that prompts are sent to; see AsyncTritonRouter.model_pair."""
        return self._run(lambda router: router.model_pair())

    def threshold_for(self, strong_share: float) -> float:
        """See AsyncTritonRouter.threshold_for."""
        return self._run(lambda router: router.threshold_for(strong_share))

    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]. Raises as AsyncTritonRouter.win_rates."""
        return self._run(lambda router: router.win_rate(prompt))

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates. Raises as AsyncTritonRouter.win_rates."""
        return self._run(lambda router: router.win_rates(prompts))

    def win_rates_from_embeddings(self, embeddings: FloatArray) -> FloatArray:
        """Return (n,) float32 win rates of (n, dim) float32 embeddings."""
        return self._run(lambda router: router.win_rates_from_embeddings(embeddings))

    @property
    def default_threshold(self) -> float:
        """The threshold of decisions for which none is given; see AsyncTritonRouter.default_threshold."""
        return self._run(lambda router: router.default_threshold())

    def route(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Choose the strong model when its win rate is at least the threshold; see AsyncTritonRouter.route."""
        return self._run(lambda router: router.route(prompt, threshold, no_text=no_text))

    async def aroute(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Return route, without keeping the running event loop, whichever it is; cancelling it cuts the call."""
        future = self._handed_over(lambda router: router.route(prompt, threshold, no_text=no_text))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if self._is_closed and not _is_cancelled(asyncio.current_task()):  # the client's own loop ended first
                raise TritonClosedError(_CLOSED) from error
            raise

    def route_batch(
        self, prompts: Sequence[str], threshold: float | None = None, *, no_text: NoText = "strong"
    ) -> list[Decision]:
        """Return route of each prompt."""
        return self._run(lambda router: router.route_batch(prompts, threshold, no_text=no_text))

    def health(self, timeout_s: float = HEALTH_TIMEOUT_S) -> dict[str, str]:
        """Return by URL what is wrong with a replica, "" for nothing; see AsyncTritonRouter.health."""
        return self._run(lambda router: router.health(timeout_s))

    def is_healthy(self, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
        """Return whether a replica answers an inference."""
        return self._run(lambda router: router.is_healthy(timeout_s))

    def close(self) -> None:
        """Cut the calls that are under way, which raise TritonClosedError, close all connections and end the thread.

        A client stays closed. Closing it again does nothing but wait for the thread's end; calls may come from any
        thread.
        """
        with self._in_this_process():
            loop, thread, self._loop, self._is_closed = self._loop, self._thread, None, True
        if thread is None:
            return
        is_inside = thread is threading.current_thread()  # e.g. a finalizer that runs there: nobody to wait for
        if loop is not None:
            closing = asyncio.run_coroutine_threadsafe(self._router.close(), loop)
            try:
                if not is_inside:
                    closing.result()
            finally:
                closing.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        if not is_inside:
            thread.join()

    def __enter__(self) -> TritonRouter:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()

    def _run(self, call: Callable[[AsyncTritonRouter], Coroutine[Any, Any, _AnyT]]) -> _AnyT:
        future = self._handed_over(call)
        try:
            return future.result()
        except futures.CancelledError as error:  # the loop ended first
            raise TritonClosedError(_CLOSED) from error
        except BaseException:
            future.cancel()
            raise

    def _handed_over(self, call: Callable[[AsyncTritonRouter], Coroutine[Any, Any, _AnyT]]) -> futures.Future[_AnyT]:
        # Handed over under the lock: what is handed over before close() is there for close() to cut.
        with self._in_this_process():
            loop = self._running()
            coroutine = call(self._router)
            try:
                return asyncio.run_coroutine_threadsafe(coroutine, loop)
            except RuntimeError as error:  # a signal handler closed the client in this very moment
                coroutine.close()
                raise TritonClosedError(_CLOSED) from error

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._is_closed:
            raise TritonClosedError(_CLOSED)
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="routellm-fast triton", daemon=True)
            self._thread.start()
        return self._loop

    def _in_this_process(self) -> threading.RLock:
        """Return the lock; in a process that was forked, first forget what was the other's."""
        if self._process != os.getpid():
            # The lock may have been held, and threads do not survive a fork.
            self._lock, self._process = threading.RLock(), os.getpid()
            self._loop = self._thread = None
            self._router = self._make()
        return self._lock

    def _make(self) -> AsyncTritonRouter:
        return AsyncTritonRouter(self._urls, **self._settings)


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    """Tell whether somebody has asked to cancel a task; before Python 3.11 nothing says so."""
    return task is None or getattr(task, "cancelling", lambda: 0)() > 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a server by an inference; return 0 where it answered, 1 where not, 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m routellm_fast.serving.triton", description="Run one inference on a Triton server."
    )
    parser.add_argument("--check", metavar="URL", required=True, help="http://host:port/path or grpc://host:port")
    parser.add_argument("--model", default=DEFAULT_NAME, help="the model's name (default: %(default)s)")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=HEALTH_TIMEOUT_S)
    options = parser.parse_args(arguments)
    try:
        with TritonRouter(options.check, model=options.model) as router:
            reason = router.health(options.timeout)[options.check]
    except RouteLLMError as error:
        sys.stderr.write(f"{shown(str(error))}\n")
        return 2
    sys.stdout.write(f"{shown(options.check)}: {shown(reason or 'answers')}\n")
    return 1 if reason else 0


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        # Calls of other threads that were under way end with CancelledError.
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        loop.close()


if __name__ == "__main__":
    sys.exit(main())
