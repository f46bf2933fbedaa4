"""A server on the loopback that passes every chat on to a real one, and keeps what was asked and what was answered."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from typing import Any

from tests.support import fake_server
from tests.support.fake_judge import Request
from tests.support.fake_server import FakeServer
from tests.support.small_models import opened


class CountingProxy(FakeServer):
    """A FakeServer in front of a real server of OpenAI's API, whose address ends in /v1.

    It has the real server end each answer after `most_tokens`, where a number is given.

    `answers` holds the last answer to each prompt; the tokens are those of all answers together, as the server counts.
    """

    request_type = Request

    def __init__(self, upstream: str, most_tokens: int | None = None) -> None:
        super().__init__()
        self._upstream = upstream
        self._most_tokens = most_tokens
        self.rule = lambda request: fake_server.Reply()  # one of its own for each request, as the status may change
        self.answers: dict[str, str] = {}
        self.input_tokens = self.output_tokens = 0

    @property
    def asked(self) -> Counter[str]:
        """How often each prompt was asked."""
        with self._lock:
            return Counter(request.user for request in self.requests)

    def answer(self, request: Request, reply: fake_server.Reply) -> Any:
        limit = {} if self._most_tokens is None else {"max_tokens": min(self._most_tokens, request.body["max_tokens"])}
        passed_on = urllib.request.Request(
            f"{self._upstream}/chat/completions",
            data=json.dumps({**request.body, **limit}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with opened(passed_on) as response:
                content = response.read()
        except urllib.error.HTTPError as refused:
            reply.status = refused.code
            return refused.read()
        answer = json.loads(content)
        with self._lock:
            self.answers[request.user] = answer["choices"][0]["message"]["content"]
            self.input_tokens += answer["usage"]["prompt_tokens"]
            self.output_tokens += answer["usage"]["completion_tokens"]
        return content
