"""A whole judging run: it opens the journal, keeps the budget, asks the endpoints, and writes battles at the end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from routellm_fast.augmentation.battle_rows import BattleRow
from routellm_fast.augmentation.budget import Budget
from routellm_fast.augmentation.clock import Clock, Stop, SystemClock
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint import ChatEndpoint
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.judge import Ending, JudgeConfig, JudgeProgress, judge_contests
from routellm_fast.augmentation.outcomes import JudgeReport, judged_battles
from routellm_fast.augmentation.questions import Questioner
from routellm_fast.augmentation.scores import ScoreRules
from routellm_fast.errors import EndpointError


@dataclass(frozen=True, slots=True)
class JudgeJob:
    """What to judge, which model judges, and how verdicts become battles.

    Attributes:
        contests: See contests.read_contests.
        questioner: The judge and its template.
        journal: The file of the journal; a run continues from what it holds.
        generators: The endpoint that generates missing responses, by model.
        config: Limits of the run; see JudgeConfig.
        rules: How verdicts become battles.
        on_disagreement: See outcomes.judged_battles.
        max_cost_usd: The most US dollars that the journal may count, earlier runs included; None for no cap.
    """

    contests: tuple[Contest, ...]
    questioner: Questioner
    journal: Path
    generators: Mapping[str, EndpointSettings] = field(default_factory=dict)
    config: JudgeConfig = field(default_factory=JudgeConfig)
    rules: ScoreRules = field(default_factory=ScoreRules)
    on_disagreement: str = "tie"
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """What a judging run made.

    Attributes:
        ending: Why the run ended.
        rows: The battles that all verdicts of the journal make.
        report: Counts and costs of the same verdicts.
        repaired_bytes: Length of an incomplete last line that was cut off the journal.
        departures: What servers do otherwise than their settings ask, e.g. that one takes no temperature.
    """

    ending: Ending
    rows: tuple[BattleRow, ...]
    report: JudgeReport
    repaired_bytes: int
    departures: tuple[str, ...] = ()


def run_judge(
    job: JudgeJob,
    *,
    clock: Clock | None = None,
    on_progress: Callable[[JudgeProgress], None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> JudgeResult:
    """Judge all contests of a job, and make battles of what the journal then holds.

    In the main thread of a program the first ctrl-C ends the run as soon as the requests that were sent are answered; a
    second ctrl-C abandons them.

    Args:
        job: What to do.
        clock: The clock; None for the machine's.
        on_progress: Called after every contest.
        on_interrupt: Called at the first ctrl-C.

    Raises:
        KeyboardInterrupt: ctrl-C was pressed a second time.
        EndpointError: See judge.judge_contests.
        DataError: The journal cannot be used.
        InvalidArgumentError: A rule does not fit the mode, or a cap has no prices to go with it.
    """
    with Journal(job.journal, job.questioner.settings) as journal:
        # Rules that do not fit are found out before anything is paid for.
        judged_battles(journal.ledger, rules=job.rules, on_disagreement=job.on_disagreement)
        ending, departures = asyncio.run(_judge(job, journal, clock or SystemClock(), on_progress, on_interrupt))
        rows, report = judged_battles(journal.ledger, rules=job.rules, on_disagreement=job.on_disagreement)
        return JudgeResult(ending, tuple(rows), report, journal.repaired_bytes, departures)


async def _judge(
    job: JudgeJob,
    journal: Journal,
    clock: Clock,
    on_progress: Callable[[JudgeProgress], None] | None,
    on_interrupt: Callable[[], None] | None,
) -> tuple[Ending, tuple[str, ...]]:
    stop = Stop()
    budget = Budget(journal, job.max_cost_usd, clock=clock)
    async with contextlib.AsyncExitStack() as stack:

        def connect(settings: EndpointSettings) -> ChatEndpoint:
            endpoint = ChatEndpoint(settings, budget=budget, stop=stop, clock=clock)
            stack.push_async_callback(endpoint.aclose)
            return endpoint

        judge = connect(job.questioner.judge)
        generators = {model: connect(settings) for model, settings in job.generators.items()}
        stack.enter_context(_interruptible(stop, on_interrupt))
        endpoints = (judge, *generators.values())
        try:
            ending = await judge_contests(
                job.contests,
                questioner=job.questioner,
                judge=judge,
                journal=journal,
                stop=stop,
                generators=generators,
                config=job.config,
                clock=clock,
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
