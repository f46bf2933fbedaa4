"""The record of one request: what was asked, what was chosen, what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

_IDS_AT_A_TIME: Final = 256

# Why a model was chosen. "router": by the win rate. "pool": by a pool. "session": the router would have chosen another
# model, but for the conversation's prompt cache. "rule": a rule. "shadow": all goes to the strong model. "fallback":
# the router failed. "named": the client named a model.
Reason = Literal["router", "pool", "session", "rule", "shadow", "fallback", "named"]


class Traits(NamedTuple):
    """What a request holds besides text.

    Attributes:
        has_tools: Whether tools are offered or were used.
        has_image: Whether there is an image.
        has_audio: Whether there is audio.
        turns: The number of messages.
        history_chars: Characters of text before the text that is routed on.
    """

    has_tools: bool = False
    has_image: bool = False
    has_audio: bool = False
    turns: int = 1
    history_chars: int = 0


class Asked(NamedTuple):
    """What a client asks, as far as routing is concerned.

    Attributes:
        model: The model's name that the client wrote.
        text: What is routed on; "" for no text.
        traits: What else the request holds.
        headers: The request's headers, names in lower case.
        client: The client's name; "" where the gateway knows no clients.
        conversation: What names the conversation, a digest; "" where the request is its first turn and cannot be named.
        is_continued: Whether the conversation had an answer before.
        previous_response: The id of an answer that lives at its upstream and that this request goes on from; "" for
            none. Only the model that gave it can go on.
    """

    model: str
    text: str
    traits: Traits
    headers: Mapping[str, str]
    client: str
    conversation: str
    is_continued: bool
    previous_response: str = ""


class Choice(NamedTuple):
    """Which model a request goes to, and why.

    Attributes:
        model: The model, by its name in the settings.
        other: The model that is asked where that one fails; None for none.
        reason: Why.
        router: The router that was asked; "" where none was.
        rule: The rule that decided; "" where none did.
        win_rate: The strong model's win rate; None where no router decided.
        threshold: What it was compared with; None likewise.
        is_strong: Whether it is the strong model of its router; None where there are no two.
        decided: The model that the router alone would have taken: another one in shadow mode and in sessions.
    """

    model: str
    other: str | None
    reason: Reason
    router: str = ""
    rule: str = ""
    win_rate: float | None = None
    threshold: float | None = None
    is_strong: bool | None = None
    decided: str = ""


class Usage(NamedTuple):
    """The tokens of a request and its answer.

    Attributes:
        input_tokens: Of the request, cached ones included.
        output_tokens: Of the answer.
        cached_tokens: Of the request, those that were in its prompt cache.
        is_estimated: Whether the upstream said nothing, and the numbers are guessed from lengths.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    is_estimated: bool = False


_ids: list[str] = []


def new_id() -> str:
    """Return 128 random bits as 32 hexadecimal digits. The system is asked for many at a time: it takes its time."""
    try:
        return _ids.pop()
    except IndexError:
        digits = os.urandom(16 * _IDS_AT_A_TIME).hex()
        _ids.extend(digits[at : at + 32] for at in range(32, len(digits), 32))
        return digits[:32]


@dataclass(slots=True)
class Exchange:
    """One request, filled along its way and given to the sinks when it has ended.

    Attributes:
        endpoint: Path of the endpoint, e.g. "/v1/chat/completions".
        id: A name of this request, 32 hexadecimal digits; clients get it as `x-routellm-id`.
        client: The client's name.
        asked_model: The model's name that the client wrote; "" where its request could not be read.
        choice: Which model was chosen; None where the request did not come so far.
        model: The model that answered at last: another than the chosen one where that one failed.
        upstream: The upstream of that model.
        attempts: How often an upstream was asked.
        status: The status that the client got; 0 where it went away before.
        error: Why it failed, one word such as "timeout"; "" where it did not. See relay.py.
        is_stream: Whether the answer was a stream of events.
        is_complete: Whether the client got all of the answer.
        usage: Tokens; None where there was no answer.
        cost_usd: What it cost; None where there was no answer or the model has no price.
        strong_cost_usd: What the strong model would have cost with as many tokens; None likewise.
        text: What was routed on. Only in memory, for those that the user told to keep it.
        answer: The answer's text, where the request is to be mirrored; else "".
        response_id: The id under which the upstream keeps the answer; "" where it keeps none.
        mirrored: The other model's answer, where the request was mirrored.
        traceparent: The W3C trace context that the client sent; "" for none.
        started_s: Seconds since 1970.
        read_s: Seconds from the beginning until the body was read and understood.
        decide_s: Seconds for the decision.
        first_byte_s: Seconds from sending to the upstream until the first byte of its answer; 0 where there was none.
        total_s: Seconds from the beginning to the end.
    """

    endpoint: str
    id: str = field(default_factory=new_id)
    client: str = ""
    asked_model: str = ""
    choice: Choice | None = None
    model: str = ""
    upstream: str = ""
    attempts: int = 0
    status: int = 0
    error: str = ""
    is_stream: bool = False
    is_complete: bool = False
    usage: Usage | None = None
    cost_usd: float | None = None
    strong_cost_usd: float | None = None
    text: str = ""
    answer: str = ""
    response_id: str = ""
    mirrored: Exchange | None = None
    traceparent: str = ""
    started_s: float = field(default_factory=time.time)
    read_s: float = 0.0
    decide_s: float = 0.0
    first_byte_s: float = 0.0
    total_s: float = 0.0


class Sink(Protocol):
    """What is told of every request. Called in the event loop: it takes microseconds, and raises nothing."""

    def began(self, exchange: Exchange) -> None:
        """A request was accepted."""

    def ended(self, exchange: Exchange) -> None:
        """It has ended, however it did. Called once for each that began."""

    def mirrored(self, exchange: Exchange) -> None:
        """The other model has answered too, or failed to: `exchange.mirrored`. After `ended`, for a sample only."""
