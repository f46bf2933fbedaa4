"""Responses of models to prompts, each generated once: with a judge, and without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from routellm_fast.augmentation.calls import Calls
from routellm_fast.augmentation.clock import Clock, Stop
from routellm_fast.augmentation.completion import Completion, sendable
from routellm_fast.augmentation.contests import Contest
from routellm_fast.augmentation.endpoint import ChatEndpoint
from routellm_fast.augmentation.journal import Journal
from routellm_fast.augmentation.ledger import call_record
from routellm_fast.augmentation.questions import response_key
from routellm_fast.augmentation.workers import Ending, JudgeProgress, work_off
from routellm_fast.errors import InvalidArgumentError


class Responses:
    """The responses of a run: those that are there, those on record, and those that endpoints generate."""

    def __init__(self, calls: Calls, generators: Mapping[str, ChatEndpoint]) -> None:
        """Begin without a call.

        Args:
            calls: Makes the calls and keeps them.
            generators: The endpoint that generates missing responses, by model.
        """
        self._calls = calls
        self._generators = generators

    def check(self, contests: Iterable[Contest]) -> None:
        """Raise InvalidArgumentError where a response is missing that no endpoint generates."""
        for contest in contests:
            for model, response in ((contest.model_a, contest.response_a), (contest.model_b, contest.response_b)):
                if response is None and model not in self._generators:
                    raise InvalidArgumentError(f"a response of {model!r} is missing, and no endpoint generates it")

    async def of(self, contest: Contest) -> tuple[str, str]:
        """Return both responses of a contest, which are there or in the journal then. Raises as Calls.call does."""
        response_a = await self._response(contest.model_a, contest.response_a, contest.prompt)
        return response_a, await self._response(contest.model_b, contest.response_b, contest.prompt)

    async def _response(self, model: str, response: str | None, prompt: str) -> str:
        if response is not None:
            return response
        endpoint = self._generators[model]
        key = response_key(endpoint.settings, prompt)
        on_record = self._calls.ledger.responses
        async with self._calls.alone(key):
            if key not in on_record:
                messages = [{"role": "user", "content": sendable(prompt)}]
                await self._calls.call(endpoint, key, messages, partial(self._record, key, endpoint.model))
            return on_record[key].text

    def _record(self, key: str, model: str, completion: Completion) -> dict[str, Any]:
        return call_record("response", key, model, completion, self._calls.now_s)


async def generate_responses(
    contests: Sequence[Contest],
    *,
    generators: Mapping[str, ChatEndpoint],
    journal: Journal,
    stop: Stop,
    max_concurrency: int = 8,
    max_failure_share: float = 0.1,
    clock: Clock | None = None,
    on_progress: Callable[[JudgeProgress], None] | None = None,
) -> Ending:
    """Ask for all responses that are missing, and for no verdict; what the journal holds is not asked again.

    Args:
        contests: See contests.read_contests.
        generators: The endpoint that generates missing responses, by model.
        journal: Where every response is written.
        stop: See workers.work_off.
        max_concurrency: The most contests, and so the most requests, at once, >= 1.
        max_failure_share: The run stops when more than this share of the contests, in [0, 1], lacks a response.
        clock: The clock that dates the records; None for the machine's.
        on_progress: Called after every contest.

    Raises:
        InvalidArgumentError: A response is missing, and no endpoint generates it.
        EndpointError: An endpoint refuses every call, or more contests than allowed lack a response. What was answered
            before is in the journal.
        DataError: The journal cannot be written.
    """
    responses = Responses(Calls(journal, clock), generators)
    responses.check(contests)

    async def answer(contest: Contest) -> None:
        await responses.of(contest)

    return await work_off(
        contests,
        answer,
        journal=journal,
        stop=stop,
        max_concurrency=max_concurrency,
        max_failure_share=max_failure_share,
        lack="prompts were left without an answer",
        on_progress=on_progress,
    )
