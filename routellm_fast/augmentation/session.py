"""One run over contests: connects the endpoints, keeps the budget, lets ctrl-C end it, and closes the connections."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from routellm_fast.augmentation.budget import Budget
from routellm_fast.augmentation.clock import Clock, Stop, SystemClock
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint import ChatEndpoint
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.judge import JudgeConfig, judge_contests
from routellm_fast.augmentation.questions import Questioner
from routellm_fast.augmentation.responses import generate_responses
from routellm_fast.augmentation.workers import Ending, JudgeProgress
from routellm_fast.errors import EndpointError


def ask_all(
    contests: Sequence[Contest],
    *,
    journal: Journal,
    questioner: Questioner | None,
    generators: Mapping[str, EndpointSettings],
    config: JudgeConfig,
    max_cost_usd: float | None = None,
    clock: Clock | None = None,
    on_progress: Callable[[JudgeProgress], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> tuple[Ending, tuple[str, ...]]:
    """Generate the responses that are missing, and ask the judge about them where there is one.

    In the main thread of a program the first ctrl-C ends the run as soon as the requests that were sent are answered; a
    second ctrl-C abandons them.

    Args:
        contests: See contests.read_contests.
        journal: The journal, open for writing.
        questioner: The judge and its template; None asks for responses alone.
        generators: The endpoint that generates missing responses, by model.
        config: Limits of the run.
        max_cost_usd: The most US dollars that the journal may count, earlier runs included; None for no cap.
        clock: The clock; None for the machine's.
        on_progress: Called after every contest.
        on_interrupt: Called at the first ctrl-C.

    Returns:
        Why the run ended, and in words what servers do otherwise than their settings ask.

    Raises:
        KeyboardInterrupt: ctrl-C was pressed a second time.
        EndpointError: See judge.judge_contests and responses.generate_responses.
        DataError: The journal cannot be written.
        InvalidArgumentError: A response is missing that nobody generates, or a cap has no prices to go with it.
    """
    session = _Session(journal, max_cost_usd, clock or SystemClock())
    return asyncio.run(session.run(contests, questioner, generators, config, on_progress, on_interrupt))


class _Session:
    def __init__(self, journal: Journal, max_cost_usd: float | None, clock: Clock) -> None:
        self._journal = journal
        self._max_cost_usd = max_cost_usd
        self._clock = clock

    async def run(
        self,
        contests: Sequence[Contest],
        questioner: Questioner | None,
        generators: Mapping[str, EndpointSettings],
        config: JudgeConfig,
        on_progress: Callable[[JudgeProgress], None] | None,
        on_interrupt: Callable[[], None] | None,
    ) -> tuple[Ending, tuple[str, ...]]:
        stop = Stop()
        budget = Budget(self._journal, self._max_cost_usd, clock=self._clock)
        async with contextlib.AsyncExitStack() as stack:

            def connect(settings: EndpointSettings) -> ChatEndpoint:
                endpoint = ChatEndpoint(settings, budget=budget, stop=stop, clock=self._clock)
                stack.push_async_callback(endpoint.aclose)
                return endpoint

            judge = None if questioner is None else connect(questioner.judge)
            answering = {model: connect(settings) for model, settings in generators.items()}
            endpoints = [*([] if judge is None else [judge]), *answering.values()]
            stack.enter_context(_interruptible(stop, on_interrupt))
            try:
                if questioner is None or judge is None:
                    ending = await generate_responses(
                        contests,
                        generators=answering,
                        journal=self._journal,
                        stop=stop,
                        max_concurrency=config.max_concurrency,
                        max_failure_share=config.max_failure_share,
                        clock=self._clock,
                        on_progress=on_progress,
                    )
                else:
                    ending = await judge_contests(
                        contests,
                        questioner=questioner,
                        judge=judge,
                        journal=self._journal,
                        stop=stop,
                        generators=answering,
                        config=config,
                        clock=self._clock,
                        on_progress=on_progress,
                    )
            except EndpointError as error:
                # What a server does otherwise than asked may be why it fails.
                if departures := _departures(endpoints):
                    raise EndpointError(f"{error}. Note: {'; '.join(departures)}") from error
                raise
            return ending, _departures(endpoints)


def _departures(endpoints: Iterable[ChatEndpoint]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for endpoint in endpoints for text in endpoint.departures))


@contextlib.contextmanager
def _interruptible(stop: Stop, on_interrupt: Callable[[], None] | None) -> Iterator[None]:
    """Let the first ctrl-C ask to stop, and give the signal back to Python then."""
    loop = asyncio.get_running_loop()
    previous = signal.getsignal(signal.SIGINT)
    if previous is None or previous == signal.SIG_IGN:  # ignored, as in the background, or not Python's
        yield
        return

    def restore() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, previous)

    def interrupted() -> None:
        restore()
        stop.ask()
        if on_interrupt is not None:
            on_interrupt()

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, RuntimeError, ValueError):  # not the main thread: whoever runs it decides
        yield
        return
    try:
        yield
    finally:
        restore()
