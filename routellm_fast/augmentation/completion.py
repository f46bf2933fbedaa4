"""The answer of a chat completions endpoint, and the most tokens that a call can take."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Messages = Sequence[Mapping[str, str]]

# A token of a byte-level vocabulary is at least a byte. Chat formats add a few for each message and for the answer.
_TOKENS_PER_MESSAGE: Final = 16
# Of English text; others take fewer bytes a token, and code does too.
_BYTES_PER_TOKEN: Final = 4.0
# No call takes so many tokens: a server that counts more does not count.
_MOST_COUNTED_TOKENS: Final = 10**9
_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished call.

    Attributes:
        text: The answer.
        input_tokens: Tokens of the question, as the server counts; the most there can be where it does not tell.
        output_tokens: Tokens of the answer, likewise.
        is_cut_off: Whether the answer ended at the token limit.
        is_metered: Whether the server told how many tokens the call took.
        cost_usd: US dollars that this call cost.
        attempts: Number of requests that were sent for it.
        latency_s: Seconds from sending the last attempt to having its answer.
    """

    text: str
    input_tokens: int
    output_tokens: int
    is_cut_off: bool
    is_metered: bool
    cost_usd: float = 0.0
    attempts: int = 1
    latency_s: float = 0.0


def sendable(text: str) -> str:
    """Replace lone surrogates, which no request can carry, by U+FFFD."""
    return _LONE_SURROGATES.sub("\ufffd", text)


def most_input_tokens(messages: Messages) -> int:
    """Return a number of tokens that the messages cannot exceed."""
    return _bytes(messages) + _TOKENS_PER_MESSAGE * (len(messages) + 1)


def likely_input_tokens(texts: Iterable[str]) -> int:
    """Return about how many tokens these texts are, four bytes to one."""
    return round(sum(len(sendable(text).encode()) for text in texts) / _BYTES_PER_TOKEN)


def parse_completion(body: bytes, *, most_input: int, most_output: int) -> Completion | None:
    """Return the first choice of a chat completion, or None for anything else.

    Args:
        body: Body of the server's response.
        most_input: Input tokens to count where the server does not tell how many there were.
        most_output: Output tokens to count, likewise.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return None
    text = _text_of(message.get("content"))
    if text is None:
        # A model that declines answers in a field of its own.
        text = message.get("refusal") or ""
    if not isinstance(text, str):
        return None
    usage = answer.get("usage")
    taken = [_count(usage, key) for key in ("prompt_tokens", "completion_tokens")]
    return Completion(
        text=text,
        input_tokens=most_input if taken[0] is None else taken[0],
        output_tokens=most_output if taken[1] is None else taken[1],
        is_cut_off=choice.get("finish_reason") == "length",
        is_metered=None not in taken,
    )


def _text_of(content: Any) -> Any:
    """Return the text of content that is a list of parts, as some servers answer; any other content as it is."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    texts = [part.get("text") for part in content if part.get("type", "text") == "text"]
    return "".join(texts) if texts and all(isinstance(text, str) for text in texts) else content


def _count(usage: Any, key: str) -> int | None:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= _MOST_COUNTED_TOKENS else None


def _bytes(messages: Messages) -> int:
    return sum(len(message["content"].encode()) for message in messages)
