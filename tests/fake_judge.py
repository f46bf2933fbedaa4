"""A real HTTP server on the loopback that speaks OpenAI's chat completions API, and can be told to misbehave."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Reply:
    """What the server does with one request: by default it answers as its judge decides."""

    status: int = 200
    text: str | None = None
    body: bytes | dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    finish_reason: str = "stop"
    has_usage: bool = True
    held: threading.Event | None = None


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def user(self) -> str:
        return str(self.body["messages"][-1]["content"])

    def tag(self, name: str) -> str:
        """The text of a tagged block of the question."""
        match = re.search(f"<{name}>\n(.*?)\n</{name}>", self.user, re.DOTALL)
        assert match is not None, self.user
        return match[1]


def quality_of(response: str) -> int:
    """The number in a response such as "quality 4", 0 without one."""
    match = re.search(r"quality (\d+)", response)
    return int(match[1]) if match else 0


def fair(request: Request) -> str:
    """Judges by the number in the response, and answers a plain prompt."""
    if "response_a" in request.user:
        a, b = quality_of(request.tag("response_a")), quality_of(request.tag("response_b"))
        return f"Compared.\nVERDICT: {'A' if a > b else 'B' if b > a else 'TIE'}"
    if "<response>" in request.user:
        return f"Looked at.\nSCORE: {min(5, max(1, quality_of(request.tag('response'))))}"
    return f"{request.body['model']} says: {request.user}"


def first_always(request: Request) -> str:
    return "The first.\nVERDICT: A"


def nonsense(request: Request) -> str:
    return "I would rather not say. VERDICT: A, or is it?"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed on purpose here; what they leave behind is no news."""


class FakeJudge:
    """Use as a context manager. `script` holds the next replies; when it is empty, every reply is `otherwise`."""

    def __init__(self, decide: Callable[[Request], str] = fair) -> None:
        self.decide = decide
        self.script: deque[Reply] = deque()
        self.otherwise = Reply()
        self.requests: list[Request] = []
        self.input_tokens = 100
        self.output_tokens = 10
        self.busy = 0
        self.most_busy = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def questions(self) -> Counter[str]:
        """How often each question was asked."""
        with self._lock:
            return Counter(request.user for request in self.requests)

    def __enter__(self) -> FakeJudge:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with fake._lock:
                    fake.requests.append(request)
                    reply = fake.script.popleft() if fake.script else fake.otherwise
                    fake.busy += 1
                    fake.most_busy = max(fake.most_busy, fake.busy)
                if reply.held is not None:
                    reply.held.wait(30.0)
                time.sleep(reply.delay_s)
                with fake._lock:
                    fake.busy -= 1
                try:
                    if reply.hang_up:
                        self.close_connection = True
                    else:
                        self._answer(reply, request)
                except OSError:  # the client gave up waiting
                    self.close_connection = True

            def _answer(self, reply: Reply, request: Request) -> None:
                content = fake._completion(request, reply) if reply.body is None else reply.body
                if isinstance(content, dict):
                    content = json.dumps(content).encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        return Handler

    def _completion(self, request: Request, reply: Reply) -> dict[str, Any]:
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
