"""Judging: many contests at once; each answer is in the journal before the next question of its contest is asked."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from routellm_fast.augmentation.budget import CostCapReachedError
from routellm_fast.augmentation.clock import Clock, Stop, StoppedError, SystemClock
from routellm_fast.augmentation.completion import Completion, Messages, sendable
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint import CallFailedError, ChatEndpoint
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.ledger import Judgement, call_record
from routellm_fast.augmentation.questions import Question, Questioner, contest_record, response_key
from routellm_fast.augmentation.verdict import parse_verdict
from routellm_fast.errors import EndpointError, InvalidArgumentError, RouteLLMError

# Fewer contests say little about how often calls fail.
_FEWEST_TRIED: Final = 20


class Ending(str, Enum):
    """Why judging ended."""

    FINISHED = "finished"
    COST_CAP = "cost cap"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class JudgeProgress:
    """How far a judging run is.

    Attributes:
        done: Number of contests that were tried.
        total: Number of all contests.
        failed: Number of contests without a verdict, because a call failed or the judge's answers could not be read.
        spent_usd: The most US dollars that all calls that have ended can have cost, earlier runs included.
    """

    done: int
    total: int
    failed: int
    spent_usd: float


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """Limits of a judging run.

    Attributes:
        max_concurrency: The most contests, and so the most requests, at once, >= 1.
        parse_retries: How often to ask again, in stricter words, when an answer holds no verdict, >= 0.
        max_failure_share: The run stops when more than this share of the contests, in [0, 1], has no verdict.
    """

    max_concurrency: int = 8
    parse_retries: int = 2
    max_failure_share: float = 0.1

    def __post_init__(self) -> None:
        if self.max_concurrency < 1 or self.parse_retries < 0:
            raise InvalidArgumentError(
                f"max_concurrency is at least 1 and parse_retries 0, found {self.max_concurrency} and "
                f"{self.parse_retries}"
            )
        if not 0.0 <= self.max_failure_share <= 1.0 or math.isnan(self.max_failure_share):
            raise InvalidArgumentError(f"max_failure_share must be in [0, 1], found {self.max_failure_share}")


async def judge_contests(
    contests: Sequence[Contest],
    *,
    questioner: Questioner,
    judge: ChatEndpoint,
    journal: Journal,
    stop: Stop,
    generators: Mapping[str, ChatEndpoint] | None = None,
    config: JudgeConfig | None = None,
    clock: Clock | None = None,
    on_progress: Callable[[JudgeProgress], None] | None = None,
) -> Ending:
    """Ask the judge about every contest; what the journal holds is not asked again.

    Args:
        contests: See contests.read_contests.
        questioner: Makes the questions.
        judge: The endpoint of the judge.
        journal: Where every answer is written; outcomes.judged_battles makes battles of it.
        stop: The same that the endpoints were given; asking it to stop ends the run as soon as the requests that were
            sent are answered.
        generators: The endpoint that generates missing responses, by model.
        config: Limits of the run.
        clock: The clock that dates the records; None for the machine's.
        on_progress: Called after every contest.

    Raises:
        InvalidArgumentError: A response is missing, and no endpoint generates it.
        EndpointError: An endpoint refuses every call, or more contests than allowed have no verdict. What was answered
            before is in the journal.
        DataError: The journal cannot be written.
    """
    generators = generators or {}
    for contest in contests:
        for model, response in ((contest.model_a, contest.response_a), (contest.model_b, contest.response_b)):
            if response is None and model not in generators:
                raise InvalidArgumentError(f"a response of {model!r} is missing, and no endpoint generates it")
    run = _Run(contests, questioner, judge, journal, stop, generators, config or JudgeConfig(), clock, on_progress)
    return await run.run()


class _Run:
    def __init__(
        self,
        contests: Sequence[Contest],
        questioner: Questioner,
        judge: ChatEndpoint,
        journal: Journal,
        stop: Stop,
        generators: Mapping[str, ChatEndpoint],
        config: JudgeConfig,
        clock: Clock | None,
        on_progress: Callable[[JudgeProgress], None] | None,
    ) -> None:
        self._contests = contests
        self._questioner = questioner
        self._judge = judge
        self._journal = journal
        self._ledger = journal.ledger
        self._unsettled_usd = journal.ledger.unsettled_usd  # of earlier runs
        self._stop = stop
        self._generators = generators
        self._config = config
        self._clock = clock or SystemClock()
        self._on_progress = on_progress
        self._done = 0
        self._failed = 0
        self._last_reason = ""
        self._ended_by: Exception | None = None
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def run(self) -> Ending:
        waiting = iter(self._contests)
        count = min(self._config.max_concurrency, len(self._contests))
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
        return Ending.FINISHED if self._done == len(self._contests) else Ending.INTERRUPTED

    async def _work(self, waiting: Iterator[Contest]) -> None:
        for contest in waiting:
            if self._stop.is_asked:
                return
            try:
                has_verdict = await self._contest(contest)
            except StoppedError:
                return
            except CallFailedError as error:
                has_verdict, self._last_reason = False, str(error)
            except (CostCapReachedError, RouteLLMError) as error:
                self._end(error)
                return
            self._done += 1
            self._failed += not has_verdict
            self._check_failures()
            if self._on_progress is not None:
                spent_usd = self._ledger.spent_usd + self._ledger.lost_usd + self._unsettled_usd
                self._on_progress(JudgeProgress(self._done, len(self._contests), self._failed, spent_usd))

    def _end(self, error: Exception) -> None:
        """End the run: the others finish the requests they have sent, which are paid for, and begin none."""
        self._ended_by = self._ended_by or error
        self._stop.ask()

    def _check_failures(self) -> None:
        enough = self._done >= min(_FEWEST_TRIED, len(self._contests))
        if not enough or self._failed <= self._config.max_failure_share * self._done:
            return
        message = (
            f"{self._failed:,} of {self._done:,} contests were left without a verdict, more than the allowed "
            f"{self._config.max_failure_share:.0%}; the last because: {self._last_reason}. What was answered is in "
            f"{self._journal.path}"
        )
        self._end(EndpointError(message))

    async def _contest(self, contest: Contest) -> bool:
        """Return whether there is a verdict on it."""
        response_a = await self._response(contest.model_a, contest.response_a, contest.prompt)
        response_b = await self._response(contest.model_b, contest.response_b, contest.prompt)
        questions = self._questioner.questions(contest, response_a, response_b)
        record = contest_record(contest, questions)
        if record["id"] not in self._ledger.contests:
            self._journal.append(record)
        for question in questions.values():
            # One verdict that cannot be read leaves the contest without: the other order is not paid for.
            if not await self._judgement(question):
                return False
        return True

    async def _response(self, model: str, response: str | None, prompt: str) -> str:
        if response is not None:
            return response
        endpoint = self._generators[model]
        key = response_key(endpoint.settings, prompt)
        async with self._alone(key):
            if key not in self._ledger.responses:
                messages = [{"role": "user", "content": sendable(prompt)}]
                record = partial(self._response_record, key, endpoint.model)
                await self._call(endpoint, key, messages, record, as_json=False)
            return self._ledger.responses[key]

    def _response_record(self, key: str, model: str, completion: Completion) -> dict[str, Any]:
        return call_record("response", key, model, completion, self._clock.time())

    async def _judgement(self, question: Question) -> bool:
        template = self._questioner.template
        async with self._alone(question.key):
            while (known := self._ledger.judgements.get(question.key, Judgement())).verdict is None:
                attempt = known.attempts
                if attempt > self._config.parse_retries:
                    cut = "; it ended at the token limit" if known.is_cut_off else ""
                    self._last_reason = f"the judge's answer holds no verdict{cut}"
                    return False
                messages = template.messages(
                    question.prompt, question.responses, question.reference, remind=attempt > 0
                )
                record = partial(self._judgement_record, question.key, attempt + 1)
                await self._call(self._judge, question.key, messages, record, as_json=template.as_json)
            return True

    def _judgement_record(self, key: str, attempt: int, completion: Completion) -> dict[str, Any]:
        template = self._questioner.template
        # The last line of an answer that was cut off may be one that the judge only quotes.
        verdict = None
        if not completion.is_cut_off:
            verdict = parse_verdict(completion.text, template.mode, as_json=template.as_json)
        record = call_record("judgement", key, self._judge.model, completion, self._clock.time())
        return {**record, "attempt": attempt, "verdict": verdict}

    async def _call(
        self,
        endpoint: ChatEndpoint,
        key: str,
        messages: Messages,
        record: Callable[[Completion], dict[str, Any]],
        *,
        as_json: bool,
    ) -> None:
        try:
            await endpoint.complete(messages, record, as_json=as_json)
        except CallFailedError as error:
            self._journal.append(
                {"record": "failure", "key": key, "reason": str(error), "time_s": round(self._clock.time(), 3)}
            )
            raise

    def _alone(self, key: str) -> asyncio.Lock:
        """Return the lock of a question or response: of two contests that share it, the second finds it answered."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
