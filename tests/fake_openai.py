"""A real HTTP server on the loopback that speaks OpenAI's embeddings API, and can be told to misbehave."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np


def vector_for(text: str, dim: int) -> np.ndarray:
    """The server's embedding of a text: (dim,) float32, as good as random."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def vectors_for(texts: Sequence[str], dim: int) -> np.ndarray:
    return np.stack([vector_for(text, dim) for text in texts])


@dataclass
class Reply:
    """What the server does with one request: by default what it is asked for."""

    status: int = 200
    body: bytes | dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reverse: bool = False
    as_lists: bool = False
    hang_up: bool = False


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeOpenAI:
    """Use as a context manager. `script` holds the next replies; when it is empty, every reply is `otherwise`."""

    def __init__(self, dim: int = 8) -> None:
        self.dim = dim
        self.script: deque[Reply] = deque()
        self.otherwise = Reply()
        self.requests: list[Request] = []
        self.busy = 0
        self.most_busy = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def texts(self) -> list[str]:
        return [text for request in self.requests for text in request.body["input"]]

    def __enter__(self) -> FakeOpenAI:
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
                with fake._lock:
                    fake.requests.append(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    reply = fake.script.popleft() if fake.script else fake.otherwise
                    fake.busy += 1
                    fake.most_busy = max(fake.most_busy, fake.busy)
                time.sleep(reply.delay_s)
                with fake._lock:
                    fake.busy -= 1
                try:
                    if reply.hang_up:
                        self.close_connection = True
                    else:
                        self._answer(reply, body)
                except OSError:  # the client gave up waiting
                    self.close_connection = True

            def _answer(self, reply: Reply, body: dict[str, Any]) -> None:
                content = fake._embeddings(body, reply) if reply.body is None else reply.body
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

    def _embeddings(self, body: dict[str, Any], reply: Reply) -> dict[str, Any]:
        dim = body.get("dimensions", self.dim)
        in_base64 = body.get("encoding_format") == "base64" and not reply.as_lists
        data = []
        for index, text in enumerate(body["input"]):
            vector = vector_for(text, dim)
            embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode() if in_base64 else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": embedding})
        if reply.reverse:
            data.reverse()
        return {
            "object": "list",
            "data": data,
            "model": body["model"],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
