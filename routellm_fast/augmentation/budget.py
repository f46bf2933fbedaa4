"""A cap on what calls cost, which is never exceeded."""

from __future__ import annotations

import asyncio
import math

from routellm_fast.augmentation.clock import Stop
from routellm_fast.errors import InvalidArgumentError


class CostCapReachedError(Exception):
    """The next call could exceed the cap. Never leaves this package."""


class Budget:
    """The money for calls. Before a call the most that it can cost is reserved; afterwards its actual cost is booked.

    Usable in one event loop at a time.
    """

    def __init__(self, max_cost_usd: float | None = None, *, spent_usd: float = 0.0) -> None:
        """Open a budget.

        Args:
            max_cost_usd: The most US dollars to spend, >= 0; None for no cap.
            spent_usd: US dollars of it that earlier runs spent.
        """
        if max_cost_usd is not None and not 0.0 <= max_cost_usd < math.inf:
            raise InvalidArgumentError(f"max_cost_usd must be at least 0 and finite, found {max_cost_usd}")
        self._max_cost_usd = max_cost_usd
        self._spent_usd = spent_usd
        self._reserved: list[float] = []
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def max_cost_usd(self) -> float | None:
        """The most US dollars to spend; None for no cap."""
        return self._max_cost_usd

    @property
    def spent_usd(self) -> float:
        """US dollars that were booked, earlier runs included."""
        return self._spent_usd

    async def reserve(self, most_usd: float, stop: Stop) -> None:
        """Set aside the most US dollars that a call can cost.

        Where they do not fit, this waits for calls that were sent, which mostly cost less than was reserved for them.

        Raises:
            StoppedError: Somebody asked to stop; nothing was set aside.
            CostCapReachedError: They do not fit even when no other call is running.
        """
        while self._max_cost_usd is not None:
            # fsum: adding and taking away again leaves no crumbs.
            if math.fsum((self._spent_usd, most_usd, *self._reserved)) <= self._max_cost_usd:
                break
            if not self._reserved:
                raise CostCapReachedError
            settled = asyncio.get_running_loop().create_future()
            self._waiting.add(settled)
            try:
                await settled
            finally:
                self._waiting.discard(settled)
        stop.check()
        self._reserved.append(most_usd)

    def settle(self, most_usd: float, cost_usd: float) -> None:
        """Give a reservation back and book what the call cost."""
        self._reserved.remove(most_usd)
        self._spent_usd += cost_usd
        for settled in self._waiting:
            if not settled.done():
                settled.set_result(None)
