"""A real HTTP server on the loopback that answers chats as OpenAI's API does, whole or as a stream of events."""

from __future__ import annotations

import json
import threading
from collections import deque
from types import TracebackType
from typing import Any

from tests.support.raw_server import Peer, RawRequest, RawServer, answer

_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class FakeChat:
    """Use as a context manager. The model named M answers "M says hello"; a request with tools is answered by a call.

    `refusals` holds the status and the body of the next answers that are none. `goes_on` is cleared to keep the rest of
    a stream back after its first event, until it is set.
    """

    def __init__(self) -> None:
        self.refusals: deque[tuple[int, Any]] = deque()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._server = RawServer(self._act)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def heads(self) -> list[str]:
        """The first line and headers of each request, in lower case."""
        return [request.head.decode("latin-1").lower() for request in self._server.requests]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [request.json for request in self._server.requests]

    @property
    def models(self) -> list[str]:
        """The model that each request named."""
        return [body["model"] for body in self.bodies]

    def __enter__(self) -> FakeChat:
        self._server.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.goes_on.set()
        self._server.__exit__(exc_type, exc, traceback)

    def _act(self, peer: Peer, request: RawRequest) -> None:
        body = request.json
        if self.refusals:
            status, refusal = self.refusals.popleft()
            peer.send(answer(status, json.dumps(refusal).encode(), (("Content-Type", "application/json"),)))
        elif body.get("stream"):
            self._stream(peer, body["model"])
        else:
            peer.send(answer(200, json.dumps(completion(body)).encode(), (("Content-Type", "application/json"),)))

    def _stream(self, peer: Peer, model: str) -> None:
        peer.send(_STREAM_HEAD)
        for index, word in enumerate((f"{model} ", "says ", "hello")):
            if index == 1:
                self.goes_on.wait()
            peer.send(_event({"delta": {"role": "assistant", "content": word}, "finish_reason": None}, model))
        peer.send(_event({"delta": {}, "finish_reason": "stop"}, model))
        peer.send(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request."""
    message: dict[str, Any] = {"role": "assistant", "content": f"{body['model']} says hello"}
    if "tools" in body:
        call = {"name": body["tools"][0]["function"]["name"], "arguments": '{"city": "Rome"}'}
        message = {**message, "content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": call}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tools" in body else "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
    }


def _event(choice: dict[str, Any], model: str) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model}
    return _chunk(b"data: " + json.dumps({**chunk, "choices": [{"index": 0, **choice}]}).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
