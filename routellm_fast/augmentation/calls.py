"""Calls that are paid for once: each answer is in the journal, by the key of its question, before it is used."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from routellm_fast.augmentation.clock import Clock, SystemClock
from routellm_fast.augmentation.completion import Completion, Messages
from routellm_fast.augmentation.endpoint import CallFailedError, ChatEndpoint
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.ledger import Ledger


class Calls:
    """Makes the calls of a run, and writes to its journal how each of them ended. Usable in one event loop."""

    def __init__(self, journal: Journal, clock: Clock | None = None) -> None:
        """Begin without a call.

        Args:
            journal: The journal, open for writing.
            clock: The clock that dates the records; None for the machine's.
        """
        self._journal = journal
        self._clock = clock or SystemClock()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    @property
    def ledger(self) -> Ledger:
        """What the journal holds."""
        return self._journal.ledger

    @property
    def now_s(self) -> float:
        """Seconds since 1970."""
        return self._clock.time()

    def alone(self, key: str) -> asyncio.Lock:
        """Return the lock of a question: of two that ask it at once, the second finds it answered."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def call(
        self,
        endpoint: ChatEndpoint,
        key: str,
        messages: Messages,
        record: Callable[[Completion], dict[str, Any]],
        *,
        as_json: bool = False,
    ) -> None:
        """Ask a question; its answer is in the journal then. A call that fails for good is written down, too.

        Args:
            endpoint: Whom to ask.
            key: The key of the question.
            messages: The chat.
            record: Returns the record of the answer for the journal.
            as_json: Whether to ask for the server's JSON mode.

        Raises:
            CallFailedError: This call failed for good. For other errors see ChatEndpoint.complete.
        """
        try:
            await endpoint.complete(messages, record, as_json=as_json)
        except CallFailedError as error:
            self._journal.append(
                {"record": "failure", "key": key, "reason": str(error), "time_s": round(self.now_s, 3)}
            )
            raise
