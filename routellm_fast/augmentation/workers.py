"""Works many items off at once, until all are done, the money is gone, somebody asks to stop, or too many fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from routellm_fast.augmentation.budget import CostCapReachedError
from routellm_fast.augmentation.clock import Stop, StoppedError
from routellm_fast.augmentation.endpoint import CallFailedError
from routellm_fast.augmentation.journal import Journal
from routellm_fast.errors import EndpointError, RouteLLMError

# Fewer items say little about how often calls fail.
_FEWEST_TRIED: Final = 20
_Item = TypeVar("_Item")


class Ending(str, Enum):
    """Why a run ended."""

    FINISHED = "finished"
    COST_CAP = "cost cap"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class JudgeProgress:
    """How far a run is.

    Attributes:
        done: Number of contests that were tried.
        total: Number of all contests.
        failed: Number of contests without a verdict, or without a response where no judge is asked, because a call
            failed or the judge's answers could not be read.
        spent_usd: The most US dollars that all calls that have ended can have cost, earlier runs included.
    """

    done: int
    total: int
    failed: int
    spent_usd: float


async def work_off(
    items: Sequence[_Item],
    work: Callable[[_Item], Awaitable[str | None]],
    *,
    journal: Journal,
    stop: Stop,
    max_concurrency: int,
    max_failure_share: float,
    lack: str,
    on_progress: Callable[[JudgeProgress], None] | None = None,
) -> Ending:
    """Work off all items.

    Args:
        items: What to work off, in this order.
        work: Works one item off. It returns None, or in words why the item was left without what was asked for.
        journal: Where calls are written.
        stop: The same that the endpoints were given; asking it to stop ends the run as soon as the requests that were
            sent are answered.
        max_concurrency: The most items at once, >= 1.
        max_failure_share: The run stops when more than this share of the items, in [0, 1], was left without.
        lack: What such items lack, in words: "contests were left without a verdict".
        on_progress: Called after every item.

    Raises:
        EndpointError: An endpoint refuses every call, or more items than allowed were left without.
        DataError: The journal cannot be written.
    """
    run = _Run(work, journal, stop, max_failure_share, lack, len(items), on_progress)
    return await run.run(items, min(max_concurrency, len(items)))


class _Run(Generic[_Item]):
    def __init__(
        self,
        work: Callable[[_Item], Awaitable[str | None]],
        journal: Journal,
        stop: Stop,
        max_failure_share: float,
        lack: str,
        total: int,
        on_progress: Callable[[JudgeProgress], None] | None,
    ) -> None:
        self._work_on = work
        self._journal = journal
        self._ledger = journal.ledger
        self._unsettled_usd = journal.ledger.unsettled_usd  # of earlier runs
        self._stop = stop
        self._max_failure_share = max_failure_share
        self._lack = lack
        self._total = total
        self._on_progress = on_progress
        self._done = 0
        self._failed = 0
        self._last_reason = ""
        self._ended_by: Exception | None = None

    async def run(self, items: Sequence[_Item], count: int) -> Ending:
        waiting = iter(items)
        workers = [asyncio.ensure_future(self._work(waiting)) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if isinstance(self._ended_by, CostCapReachedError):
            return Ending.COST_CAP
        if self._ended_by is not None:
            raise self._ended_by
        return Ending.FINISHED if self._done == self._total else Ending.INTERRUPTED

    async def _work(self, waiting: Iterator[_Item]) -> None:
        for item in waiting:
            if self._stop.is_asked:
                return
            try:
                reason = await self._work_on(item)
            except StoppedError:
                return
            except CallFailedError as error:
                reason = str(error)
            except (CostCapReachedError, RouteLLMError) as error:
                self._end(error)
                return
            self._done += 1
            if reason is not None:
                self._failed += 1
                self._last_reason = reason
            self._check_failures()
            if self._on_progress is not None:
                spent_usd = self._ledger.spent_usd + self._ledger.lost_usd + self._unsettled_usd
                self._on_progress(JudgeProgress(self._done, self._total, self._failed, spent_usd))

    def _end(self, error: Exception) -> None:
        """End the run: the others finish the requests they have sent, which are paid for, and begin none."""
        self._ended_by = self._ended_by or error
        self._stop.ask()

    def _check_failures(self) -> None:
        enough = self._done >= min(_FEWEST_TRIED, self._total)
        if not enough or self._failed <= self._max_failure_share * self._done:
            return
        message = (
            f"{self._failed:,} of {self._done:,} {self._lack}, more than the allowed {self._max_failure_share:.0%}; "
            f"the last because: {self._last_reason}. What was answered is in {self._journal.path}"
        )
        self._end(EndpointError(message))
