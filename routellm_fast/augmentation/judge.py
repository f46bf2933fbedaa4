"""Judging: many contests at once; each answer is in the journal before the next question of its contest is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from routellm_fast.augmentation.calls import Calls
from routellm_fast.augmentation.clock import Clock, Stop
from routellm_fast.augmentation.completion import Completion
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint import ChatEndpoint
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.ledger import Judgement, call_record
from routellm_fast.augmentation.questions import Question, Questioner, contest_record
from routellm_fast.augmentation.responses import Responses
from routellm_fast.augmentation.verdict import parse_verdict
from routellm_fast.augmentation.workers import Ending, JudgeProgress, work_off
from routellm_fast.errors import InvalidArgumentError

_LACK: Final = "contests were left without a verdict"


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
        stop: See workers.work_off.
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
    config = config or JudgeConfig()
    calls = Calls(journal, clock)
    responses = Responses(calls, generators or {})
    responses.check(contests)
    bench = _Bench(questioner, judge, journal, calls, responses, config.parse_retries)
    return await work_off(
        contests,
        bench.decide,
        journal=journal,
        stop=stop,
        max_concurrency=config.max_concurrency,
        max_failure_share=config.max_failure_share,
        lack=_LACK,
        on_progress=on_progress,
    )


class _Bench:
    """Where contests are decided, each by all its questions."""

    def __init__(
        self,
        questioner: Questioner,
        judge: ChatEndpoint,
        journal: Journal,
        calls: Calls,
        responses: Responses,
        parse_retries: int,
    ) -> None:
        self._questioner = questioner
        self._judge = judge
        self._journal = journal
        self._calls = calls
        self._responses = responses
        self._parse_retries = parse_retries

    async def decide(self, contest: Contest) -> str | None:
        """Have a contest decided. Returns in words why it has no verdict, or None where it has."""
        questions = self._questioner.questions(contest, *await self._responses.of(contest))
        record = contest_record(contest, questions)
        if record["id"] not in self._calls.ledger.contests:
            self._journal.append(record)
        for question in questions.values():
            # One verdict that cannot be read leaves the contest without: the other order is not paid for.
            if (reason := await self._judgement(question)) is not None:
                return reason
        return None

    async def _judgement(self, question: Question) -> str | None:
        template = self._questioner.template
        judgements = self._calls.ledger.judgements
        async with self._calls.alone(question.key):
            while (known := judgements.get(question.key, Judgement())).verdict is None:
                attempt = known.attempts
                if attempt > self._parse_retries:
                    cut = "; it ended at the token limit" if known.is_cut_off else ""
                    return f"the judge's answer holds no verdict{cut}"
                messages = template.messages(
                    question.prompt, question.responses, question.reference, remind=attempt > 0
                )
                record = partial(self._record, question.key, attempt + 1)
                await self._calls.call(self._judge, question.key, messages, record, as_json=template.as_json)
            return None

    def _record(self, key: str, attempt: int, completion: Completion) -> dict[str, Any]:
        template = self._questioner.template
        # The last line of an answer that was cut off may be one that the judge only quotes.
        verdict = None
        if not completion.is_cut_off:
            verdict = parse_verdict(completion.text, template.mode, as_json=template.as_json)
        record = call_record("judgement", key, self._judge.model, completion, self._calls.now_s)
        return {**record, "attempt": attempt, "verdict": verdict}
