"""Chat completions from any server that speaks OpenAI's API, at a limited pace, with retries, within a budget."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from routellm_fast.augmentation.budget import Budget
from routellm_fast.augmentation.clock import Clock, Stop, SystemClock
from routellm_fast.augmentation.completion import Completion, Messages, most_input_tokens, parse_completion
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from routellm_fast.augmentation.failures import Failure, broken_connection, refusal
from routellm_fast.augmentation.manners import ChatManners
from routellm_fast.augmentation.pace import Pace
from routellm_fast.endpoints import (
    ApiKey,
    is_openai,
    key_for,
    query_secrets,
    server_of,
    shown,
    shown_server,
)
from routellm_fast.errors import EndpointError, InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.guarded_http import expecting, new_async_client

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
# The longest text of a token, each of its characters escaped in JSON; answers have some fields besides.
_BYTES_PER_TOKEN: Final = 1 << 10
_BYTES_PER_ANSWER: Final = 1 << 18


class CallFailedError(Exception):
    """One call failed for good; other calls may succeed. Never leaves this package. Its text holds no key."""


class ChatEndpoint:
    """One model at one server. Usable in one event loop; close it in that loop.

    A call first waits for its turn, then reserves the most that it can cost, then sends its request, and writes the
    answer to the journal before it returns it. A request that was sent and never answered may have been billed, so what
    was reserved for it counts as spent.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        budget: Budget,
        stop: Stop,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        api_key: str | None = None,
    ) -> None:
        """Describe the service; no request is sent.

        Args:
            settings: Model, server, limits and prices.
            budget: The budget that all endpoints of a run share.
            stop: Ends the waiting of calls when it is asked to.
            clock: The clock; None for the machine's.
            rng: Draws how long to wait before a retry; None for one that the system seeds.
            api_key: The key itself; None reads the variable of the settings.

        Raises:
            InvalidArgumentError: A setting breaks a rule, or there is a cap on cost and no price.
            EndpointError: OpenAI needs a key and there is none.
            MissingExtraError: The openai package is not installed.
        """
        if budget.max_cost_usd is not None and settings.prices is None:
            raise InvalidArgumentError(
                f"a cap on cost needs the prices of {settings.model!r}, a million tokens in and out"
            )
        self.settings = settings
        self._server = server_of(settings.base_url)
        self._url = shown_server(self._server, "/chat/completions")
        self._manners = ChatManners.of(settings, is_openai=is_openai(self._server))
        self._key = key_for(self._server, given=ApiKey(api_key), variable=settings.api_key_variable)
        self._budget = budget
        self._stop = stop
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries over time; nothing secret
        self._pace = Pace(
            self._clock, requests_per_min=settings.requests_per_min, tokens_per_min=settings.tokens_per_min
        )
        self._overrun = ""
        self._openai = require("openai", "openai")
        self._client = new_async_client(
            self._openai, self._server, self._key, timeout_s=settings.timeout_s, max_retries=0
        )
        self._most_answer_bytes = _BYTES_PER_ANSWER + _BYTES_PER_TOKEN * settings.max_tokens

    @property
    def model(self) -> str:
        """The server's name of the model."""
        return self.settings.model

    @property
    def departures(self) -> list[str]:
        """What the server does otherwise than the settings ask, in words, as far as it is known."""
        return [*self._manners.departures(self.settings), *filter(None, (self._overrun,))]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    def scrub(self, text: str) -> str:
        """Return a text without the key."""
        return self._key.scrub(text)

    async def complete(
        self, messages: Messages, record: Callable[[Completion], Mapping[str, Any]], *, as_json: bool = False
    ) -> Completion:
        """Return the answer, which is in the journal then.

        Args:
            messages: The chat.
            record: Returns the record of the answer for the journal.
            as_json: Whether to ask for the server's JSON mode.

        Raises:
            StoppedError: Somebody asked to stop before the request was sent.
            CostCapReachedError: The call could exceed the cap.
            CallFailedError: This call failed for good.
            EndpointError: No call to this endpoint can succeed, or none can be kept within the cap on cost.
            DataError: The journal cannot be written.
        """
        reason = ""
        manners = self._manners
        requests = 0
        for attempt in range(self.settings.max_retries + 1):
            if attempt:
                await self._stop.sleep(self._clock, self._pause_s(attempt))
            while True:
                body = manners.body(self.settings, messages, as_json=as_json)
                requests += 1
                outcome = await self._attempt(body, requests, record)
                if isinstance(outcome, Completion):
                    self._manners = self._manners.with_learned(manners)
                    return outcome
                # Asked in another way it is no further attempt: nothing failed that may succeed later.
                changed = manners.after_refusal(outcome.status, outcome.said, body)
                if changed is None:
                    break
                manners = changed
            reason = outcome.reason
            if outcome.is_hopeless:
                raise EndpointError(reason)
            if not outcome.is_retried:
                break
            if outcome.asked_pause_s is not None:
                self._pace.pause(outcome.asked_pause_s)
        raise CallFailedError(reason)

    async def _attempt(
        self, body: Mapping[str, Any], requests: int, record: Callable[[Completion], Mapping[str, Any]]
    ) -> Completion | Failure:
        most_input = most_input_tokens(body["messages"])
        most_tokens = most_input + self.settings.max_tokens
        most_usd = self._cost_usd(most_input, self.settings.max_tokens)
        await self._pace.turn(most_tokens, self._stop)
        number = await self._budget.reserve(most_usd, self.model, self._stop)
        began_s = self._clock.monotonic()
        outcome: Completion | Failure | None = None
        try:
            outcome = await self._send(body, most_input)
        finally:
            if outcome is None:
                self._budget.lose(number, most_usd, "abandoned")
        if isinstance(outcome, Failure):
            if outcome.may_be_billed:
                self._budget.lose(number, most_usd, outcome.reason)
            else:
                self._budget.release(number, outcome.reason)
            return outcome
        latency_s = self._clock.monotonic() - began_s
        cost_usd = self._cost_usd(outcome.input_tokens, outcome.output_tokens)
        answer = replace(outcome, cost_usd=cost_usd, latency_s=latency_s, attempts=requests)
        self._budget.settle(number, record(answer))
        used_tokens = answer.input_tokens + answer.output_tokens
        self._pace.give_back(max(0, most_tokens - used_tokens))
        if cost_usd > most_usd:
            self._notice_overrun(used_tokens, most_tokens)
        return answer

    def _notice_overrun(self, used_tokens: int, most_tokens: int) -> None:
        """Note that a server counts more tokens than it was asked for; with a cap on cost, raise EndpointError."""
        what = f"counts {used_tokens:,} tokens for a call that can take {most_tokens:,} at most"
        self._overrun = f"{self.model} {what}: its calls cost more than an estimate says"
        if self._budget.max_cost_usd is not None:
            raise EndpointError(
                f"{self._url} {what}, so no cap on cost can be kept. Its answer is in the journal, at the cost of what "
                "it counts. Give a max_tokens that it keeps to, or no cap"
            )

    async def _send(self, body: Mapping[str, Any], most_input: int) -> Completion | Failure:
        openai = self._openai
        try:
            with expecting(self._most_answer_bytes) as exchange:
                response = await self._client.chat.completions.with_raw_response.create(**body)
        except openai.APIStatusError as error:
            return refusal(error, self._url, self.model, self._clock.time(), self._shown)
        except openai.APITimeoutError as error:
            return broken_connection(error, self._url, self.settings.timeout_s, self._shown)
        except openai.OpenAIError as error:
            return broken_connection(error, self._url, None, self._shown)
        if exchange.flaw:
            reason = f"{self._url} answered {self._shown(exchange.flaw)}"
            return Failure(reason, is_retried=True, may_be_billed=True)
        content = response.http_response.content
        parsed = parse_completion(content, most_input=most_input, most_output=self.settings.max_tokens)
        if parsed is None:
            said = self._shown(content.decode(errors="replace"))
            reason = f"{self._url} answered {len(content)} bytes that are no chat completion: {said}"
            return Failure(reason, is_retried=True, may_be_billed=True)
        return replace(parsed, text=self._key.scrub(parsed.text))

    def _shown(self, text: str) -> str:
        return shown(text, self._key, *query_secrets(self._server))

    def _cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        prices = self.settings.prices
        return 0.0 if prices is None else prices.cost_usd(input_tokens, output_tokens)

    def _pause_s(self, attempt: int) -> float:
        """Return a pause in seconds: twice as long each time, and drawn so that tasks do not all retry at once."""
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (attempt - 1)) * self._rng.uniform(0.5, 1.0)
