"""The calls of an asyncio client that are under way, so that closing the client can end them by a named error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from routellm_fast.errors import TritonClosedError


@dataclass(slots=True, eq=False)
class _Call:
    """A call: the task that waits in it, and whether closing cut it."""

    task: asyncio.Task[Any]
    is_cut: bool = False


class Calls:
    """The calls of a client that are under way. Belongs to one event loop."""

    def __init__(self) -> None:
        """Begin open and idle."""
        self._calls: set[_Call] = set()
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Run the block as one call.

        Raises:
            TritonClosedError: The client was closed before, or was closed while the block ran.
        """
        if self._closing:
            raise TritonClosedError("this client was closed: make another one for further calls")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs every coroutine in a task
        call = _Call(task)
        self._calls.add(call)
        self._idle.clear()
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            if call.is_cut and not _is_cancelled_by_others(task):
                raise TritonClosedError("this client was closed while the call waited for an answer") from error
            raise
        finally:
            # Closing cancelled the task to wake it up. The task goes on: to its caller it is not a cancelled one.
            if call.is_cut and hasattr(task, "uncancel"):
                task.uncancel()
            self._calls.discard(call)
            if not self._calls:
                self._idle.set()

    async def close(self) -> None:
        """Refuse further calls, cut those under way, and wait until all of them have ended."""
        self._closing = True
        for call in self._calls:
            if not call.is_cut:
                call.is_cut = True
                call.task.cancel()
        await self._idle.wait()


def _is_cancelled_by_others(task: asyncio.Task[Any]) -> bool:
    """Say whether somebody else than us asked the task to end. Before Python 3.11 a task does not tell."""
    return hasattr(task, "cancelling") and task.cancelling() > 1
