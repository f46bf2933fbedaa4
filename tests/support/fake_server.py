"""A real HTTP server on the loopback that answers by a script, and can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Reply:
    """What the server does with one request: by default what it is asked for."""

    status: int = 200
    body: Any = None  # bytes, or what is sent as JSON
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    held: threading.Event | None = None


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed on purpose here; what they leave behind is no news."""


class FakeServer:
    """Use as a context manager.

    `script` holds the next replies. When it is empty, `rule` makes one of the request; where it makes none, or there is
    no rule, the reply is `otherwise`.
    """

    reply_type = Reply
    request_type = Request

    def __init__(self) -> None:
        self.script: deque[Any] = deque()
        self.otherwise = self.reply_type()
        self.rule: Callable[[Any], Any] | None = None
        self.requests: list[Any] = []
        self.busy = 0
        self.most_busy = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def answer(self, request: Any, reply: Any) -> dict[str, Any]:
        """What a reply without a body of its own holds."""
        raise AssertionError(request, reply)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Any:
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
                request = fake.request_type(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with fake._lock:
                    fake.requests.append(request)
                    ruled = fake.rule(request) if fake.rule and not fake.script else None
                    reply = ruled or (fake.script.popleft() if fake.script else fake.otherwise)
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
                        self._send(reply, request)
                except OSError:  # the client gave up waiting
                    self.close_connection = True

            def _send(self, reply: Reply, request: Request) -> None:
                content = fake.answer(request, reply) if reply.body is None else reply.body
                if not isinstance(content, bytes):
                    content = json.dumps(content).encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        return Handler
