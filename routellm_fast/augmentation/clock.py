"""The clock, and the request to stop. Both are passed in, so that tests neither wait nor interrupt."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A clock that tells the time and waits; tests replace it."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def time(self) -> float:
        """Seconds since 1970, for the record."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        ...


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait that many seconds."""
        await asyncio.sleep(seconds)


class StoppedError(Exception):
    """Work was asked to stop. This error never leaves the package."""


class Stop:
    """Asks running work to end.

    Requests that were sent are still awaited, since they are paid for. No new request is sent, and pauses end at once.
    Usable in one event loop at a time.
    """

    def __init__(self) -> None:
        """Begin without a request to stop."""
        self._event = asyncio.Event()

    @property
    def is_asked(self) -> bool:
        """Whether `ask` was called."""
        return self._event.is_set()

    def ask(self) -> None:
        """Ask to stop. A second call does nothing."""
        self._event.set()

    def check(self) -> None:
        """Raise StoppedError when asked to stop."""
        if self._event.is_set():
            raise StoppedError

    async def sleep(self, clock: Clock, seconds: float) -> None:
        """Wait by the clock. Raises StoppedError as soon as stopping is asked for."""
        self.check()
        pause = asyncio.ensure_future(clock.sleep(seconds))
        asked = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({pause, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            asked.cancel()
        self.check()
