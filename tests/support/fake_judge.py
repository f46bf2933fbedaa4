"""A real HTTP server on the loopback that speaks OpenAI's chat completions API, and can be told to misbehave."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support import fake_server
from tests.support.fake_server import FakeServer


@dataclass
class Reply(fake_server.Reply):
    """What the server does with one request: by default it answers as its judge decides."""

    text: str | None = None
    finish_reason: str = "stop"
    has_usage: bool = True


@dataclass
class Request(fake_server.Request):
    """A question to a chat model."""

    @property
    def user(self) -> str:
        return str(self.body["messages"][-1]["content"])

    def tag(self, name: str) -> str:
        """The text of a tagged block of the question."""
        match = re.search(f"<{name}-([0-9a-f]{{16}})>\n(.*?)\n</{name}-\\1>", self.user, re.DOTALL)
        assert match is not None, self.user
        return match[2]


def quality_of(response: str) -> int:
    """The number in a response such as "quality 4", 0 without one."""
    match = re.search(r"quality (\d+)", response)
    return int(match[1]) if match else 0


def fair(request: Request) -> str:
    """Judges by the number in the response, and answers a plain prompt."""
    if "<response_a-" in request.user:
        a, b = quality_of(request.tag("response_a")), quality_of(request.tag("response_b"))
        return f"Compared.\nVERDICT: {'A' if a > b else 'B' if b > a else 'TIE'}"
    if "<response-" in request.user:
        return f"Looked at.\nSCORE: {min(5, max(1, quality_of(request.tag('response'))))}"
    return f"{request.body['model']} says: {request.user}"


def first_always(request: Request) -> str:
    return "The first.\nVERDICT: A"


def nonsense(request: Request) -> str:
    return "I would rather not say. VERDICT: A, or is it?"


class FakeJudge(FakeServer):
    """A FakeServer of chat completions, by default those of a fair judge."""

    reply_type = Reply
    request_type = Request

    def __init__(self, decide: Callable[[Request], str] = fair) -> None:
        super().__init__()
        self.decide = decide
        self.input_tokens = 100
        self.output_tokens = 10

    @property
    def questions(self) -> Counter[str]:
        """How often each question was asked."""
        with self._lock:
            return Counter(request.user for request in self.requests)

    def answer(self, request: Request, reply: Reply) -> dict[str, Any]:
        text = self.decide(request) if reply.text is None else reply.text
        message = {"role": "assistant", "content": text}
        usage = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
        }
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": request.body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        }
        return {**answer, "usage": usage} if reply.has_usage else answer
