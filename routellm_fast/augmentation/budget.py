"""A cap on what calls cost, which holds also where the process is killed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from routellm_fast.augmentation.clock import Clock, Stop, SystemClock
from routellm_fast.augmentation.journal import Journal
from routellm_fast.errors import InvalidArgumentError


class CostCapReachedError(Exception):
    """The next call could exceed the cap. Never leaves this package."""


class Budget:
    """The money for calls, as the journal has it.

    Before an attempt at a call, the most that it can cost is reserved by a record in the journal; a further record
    settles it. What is reserved and not settled counts as spent, in this run and in later ones, so a process that is
    killed never has more billed than its journal counts. A reservation of money is on the disk before its request may
    be sent, so that this holds after a power cut, too; those that wait together share one sync.

    Usable in one event loop at a time.
    """

    def __init__(self, journal: Journal, max_cost_usd: float | None = None, *, clock: Clock | None = None) -> None:
        """Open a budget.

        Args:
            journal: The journal, open for writing; what earlier runs spent is in it.
            max_cost_usd: The most US dollars that the journal may count, >= 0; None for no cap.
            clock: The clock that dates the records; None for the machine's.
        """
        if max_cost_usd is not None and not 0.0 <= max_cost_usd < math.inf:
            raise InvalidArgumentError(f"max_cost_usd must be at least 0 and finite, found {max_cost_usd}")
        self._journal = journal
        self._max_cost_usd = max_cost_usd
        self._clock = clock or SystemClock()
        self._under_way: set[int] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self._syncing: asyncio.Task[None] | None = None
        self._synced_reservation = 0

    @property
    def max_cost_usd(self) -> float | None:
        """The most US dollars to spend; None for no cap."""
        return self._max_cost_usd

    async def reserve(self, most_usd: float, model: str, stop: Stop) -> int:
        """Set aside the most US dollars that an attempt at a call can cost; return the number of the reservation.

        Where they do not fit, this waits for attempts that are under way, which mostly cost less than was reserved.

        Raises:
            StoppedError: Somebody asked to stop; nothing is set aside.
            CostCapReachedError: They do not fit even when no other attempt of this run is under way.
            DataError: The journal cannot be written.
        """
        while not self._fits(most_usd):
            stop.check()
            if not self._under_way:
                raise CostCapReachedError
            settled = asyncio.get_running_loop().create_future()
            self._waiting.add(settled)
            try:
                await settled
            finally:
                self._waiting.discard(settled)
        stop.check()
        number = self._journal.ledger.last_reservation + 1
        self._journal.append(
            {"record": "reservation", "number": number, "usd": most_usd, "model": model, "time_s": self._now_s()}
        )
        self._under_way.add(number)
        if most_usd > 0.0:
            try:
                await self._sync(number)
                stop.check()
            except BaseException:
                self.release(number, "never sent")
                raise
        return number

    def settle(self, number: int, record: Mapping[str, Any]) -> None:
        """Write down how an attempt ended, and give its reservation back. Raises DataError where that is impossible.

        Args:
            number: The reservation. Where the record cannot be written it goes on counting as spent.
            record: What the attempt came to, and what it cost; see ledger.
        """
        try:
            self._journal.append({**record, "reservation": number})
        finally:
            self._under_way.discard(number)
            for settled in self._waiting:
                if not settled.done():
                    settled.set_result(None)

    def lose(self, number: int, usd: float, reason: str) -> None:
        """Settle an attempt that was never answered and may have been billed."""
        self.settle(number, {"record": "loss", "usd": usd, "reason": reason, "time_s": self._now_s()})

    def release(self, number: int, reason: str) -> None:
        """Settle an attempt that cost nothing."""
        self.settle(number, {"record": "release", "reason": reason, "time_s": self._now_s()})

    def _fits(self, most_usd: float) -> bool:
        return self._max_cost_usd is None or self._journal.ledger.committed_usd + most_usd <= self._max_cost_usd

    async def _sync(self, number: int) -> None:
        """Return when a reservation is on the disk."""
        while self._synced_reservation < number:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.ensure_future(self._sync_all())
            # Whoever is cancelled gives up waiting for the sync, and the others do not.
            await asyncio.shield(self._syncing)

    async def _sync_all(self) -> None:
        await asyncio.sleep(0)  # others that are about to reserve come along
        last = self._journal.ledger.last_reservation
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._journal.sync)
        except OSError as error:
            raise self._journal.unwritable(error) from error
        self._synced_reservation = last

    def _now_s(self) -> float:
        return round(self._clock.time(), 3)
