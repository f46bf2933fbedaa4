"""A server of models over real sockets, whose answers and faults each request chooses for itself.

It speaks OpenAI's chat completions, completions, responses, embeddings and models, and Anthropic's messages. What a
request should meet stands in its text: `@slow=0.2`, `@status=429`, `@cut=3` and so on; see `Plan`. Bytes are the same
each time, so that a test can compare them.

As a process of its own, fast enough for load: `python -m tests.support.upstream --port 9000`. It writes its address,
keeps no requests, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

_NOW: Final = "NOW"  # in an event that says when it was sent
_WORDS: Final = [f"word{number}" for number in range(1000)]


@dataclass(frozen=True)
class Plan:
    """What one request meets, read from marks `@name=value` anywhere in its body.

    Attributes:
        status: The answer's status.
        retry_after: The header Retry-After; "" for none.
        slow: Seconds before the first byte.
        pause: Seconds between the events of a stream.
        words: Number of words in the answer, each an event of a stream.
        cut: Close the connection after so many events, or bytes of a body; -1 never.
        hang: Send nothing more of a stream after so many events; -1 never.
        fails: The first so many requests with this text get the status, those after it get an answer; -1 all do.
        form: "json", "gzip", "malformed", "redirect", "nothing" (the connection is closed without an answer), "tools",
            "clock" (each word says when it was sent, `t=` and time.monotonic_ns()).
        usage: Whether the answer tells its tokens.
        header_bytes: The length of a further header, x-long; 0 for none.
    """

    status: int = 200
    retry_after: str = ""
    slow: float = 0.0
    pause: float = 0.0
    words: int = 5
    cut: int = -1
    hang: int = -1
    fails: int = -1
    form: str = "json"
    usage: bool = True
    header_bytes: int = 0

    @classmethod
    def of(cls, text: str) -> Plan:
        found: dict[str, Any] = {}
        for name, value in re.findall(r"@(\w+)=([\w.:-]+)", text):
            kind = type(getattr(cls, name, None))
            if kind is type(None):
                continue  # a text with a mark like ours, such as an address
            found[name] = value == "True" if kind is bool else kind(value)
        return cls(**found)


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    is_cut_off: bool = False  # the client went away before the answer was whole

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Upstream:
    """The running server, and what it was asked."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    keeps_requests: bool = True
    seen: dict[str, int] = field(default_factory=dict)
    connections: set[Any] = field(default_factory=set)

    def bodies(self) -> list[dict[str, Any]]:
        return [request.fields for request in self.requests]


def answer_of(path: str, plan: Plan, model: str, is_stream: bool) -> tuple[str, bytes | list[bytes]]:
    """Return the content type and the body, or the events of a stream."""
    words = [_WORDS[number % len(_WORDS)] + " " for number in range(plan.words)]
    if plan.form == "clock":
        words = [f"t={_NOW} "] * plan.words
    make = {
        "/chat/completions": _chat,
        "/completions": _completion,
        "/responses": _response,
        "/messages": _message,
    }.get(path)
    if make is None:
        vector = {"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}
        value = {"object": "list", "data": [vector], "model": model, "usage": {"prompt_tokens": 3, "total_tokens": 3}}
        return "application/json", json.dumps(value).encode()
    return make(plan, words, model, is_stream)


def _events(values: list[Any], *, named: bool = False, end: bool = True) -> list[bytes]:
    events = []
    for value in values:
        name = f"event: {value['type']}\n" if named else ""
        events.append(f"{name}data: {json.dumps(value)}\n\n".encode())
    return [*events, b"data: [DONE]\n\n"] if end else events


def _chat(plan: Plan, words: list[str], model: str, is_stream: bool) -> tuple[str, bytes | list[bytes]]:
    usage = {"prompt_tokens": 20, "completion_tokens": len(words), "total_tokens": 20 + len(words)}
    usage["prompt_tokens_details"] = {"cached_tokens": 8}  # type: ignore[assignment]
    head = {"id": "chatcmpl-1", "created": 1700000000, "model": model}
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
    if not is_stream:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(words)}
        if plan.form == "tools":
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "tool_calls" if plan.form == "tools" else "stop"
        value = {
            **head,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        }
        if plan.usage:
            value["usage"] = usage
        return "application/json", json.dumps(value, ensure_ascii=False).encode()
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    if plan.form == "tools":
        deltas = [{"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}]
    chunk = {**head, "object": "chat.completion.chunk"}
    values = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    reason = "tool_calls" if plan.form == "tools" else "stop"
    values.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    if plan.usage:
        values.append({**chunk, "choices": [], "usage": usage})
    return "text/event-stream; charset=utf-8", _events(values)


def _completion(plan: Plan, words: list[str], model: str, is_stream: bool) -> tuple[str, bytes | list[bytes]]:
    usage = {"prompt_tokens": 9, "completion_tokens": len(words), "total_tokens": 9 + len(words)}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": model}
    if not is_stream:
        value = {**head, "choices": [{"index": 0, "text": "".join(words), "finish_reason": "stop"}], "usage": usage}
        return "application/json", json.dumps(value).encode()
    values = [{**head, "choices": [{"index": 0, "text": word, "finish_reason": None}]} for word in words]
    return "text/event-stream", _events([*values, {**head, "choices": [], "usage": usage}])


def _response(plan: Plan, words: list[str], model: str, is_stream: bool) -> tuple[str, bytes | list[bytes]]:
    usage = {"input_tokens": 12, "output_tokens": len(words), "total_tokens": 12 + len(words)}
    usage["input_tokens_details"] = {"cached_tokens": 4}  # type: ignore[assignment]
    part = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    whole = {"id": f"resp_{model}", "object": "response", "created_at": 1700000000, "model": model, "output": [item],
             "status": "completed", "usage": usage}  # fmt: skip
    if not is_stream:
        return "application/json", json.dumps(whole).encode()
    begun = {**whole, "output": [], "status": "in_progress", "usage": None}
    values: list[dict[str, Any]] = [{"type": "response.created", "sequence_number": 0, "response": begun}]
    values += [
        {"type": "response.output_text.delta", "sequence_number": number + 1, "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "delta": word, "logprobs": []}
        for number, word in enumerate(words)
    ]  # fmt: skip
    values.append({"type": "response.completed", "sequence_number": len(values), "response": whole})
    return "text/event-stream", _events(values, named=True, end=False)


def _message(plan: Plan, words: list[str], model: str, is_stream: bool) -> tuple[str, bytes | list[bytes]]:
    usage = {
        "input_tokens": 6,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 0,
        "output_tokens": len(words),
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
    if not is_stream:
        content = [{"type": "text", "text": "".join(words)}]
        return "application/json", json.dumps(
            {**head, "content": content, "stop_reason": "end_turn", "usage": usage}
        ).encode()
    start = {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": len(words)},
        },
        {"type": "message_stop"},
    ]
    return "text/event-stream", _events(values, named=True, end=False)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 by hand: what is sent, and where it breaks off, is to the byte what the plan says."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._data = bytearray()
        self._needed = 0  # bytes of the request that is coming, once its head is there
        self._task: asyncio.Task[None] | None = None
        self._current: Request | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._upstream.connections.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._upstream.connections.discard(self._transport)
        if self._current is not None:
            self._current.is_cut_off = True
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= self._needed:
            self._next()

    def _next(self) -> None:
        if self._task is not None:
            return
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self._data[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        self._needed = end + 4 + length
        if len(self._data) < self._needed:
            return
        body = bytes(self._data[end + 4 : self._needed])
        del self._data[: self._needed]
        self._needed = 0
        method, path, _ = lines[0].split(" ")
        request = Request(method, path, headers, body)
        if self._upstream.keeps_requests:
            self._upstream.requests.append(request)
        fast = self._fast(request)
        if fast is not None:
            self._transport.write(fast)
            self._next()
            return
        self._current = request
        self._task = asyncio.get_running_loop().create_task(self._answer(request))
        self._task.add_done_callback(self._done)

    def _fast(self, request: Request) -> bytes | None:
        """Return the answer to what asks for nothing special, at once."""
        if b"@" in request.body or request.method != "POST":
            return None
        key = (request.path, b'"stream": true' in request.body or b'"stream":true' in request.body)
        if key not in _PREBUILT:
            _PREBUILT[key] = _whole(request.path.removeprefix("/v1"), *key[1:])
        return _PREBUILT[key]

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = self._current = None
        if not task.cancelled() and task.exception() is None and not self._transport.is_closing():
            self._next()
        else:
            self._transport.close()

    async def _answer(self, request: Request) -> None:
        path = request.path.partition("?")[0].removeprefix("/v1")
        if request.method == "GET":
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in ("big", "small")]
            self._write(200, "application/json", json.dumps({"object": "list", "data": models}).encode())
            return
        text = request.body.decode("utf-8", "replace")
        plan = Plan.of(text)
        fields = json.loads(text)
        seen = 1
        if plan.fails >= 0:
            seen = self._upstream.seen[text] = self._upstream.seen.get(text, 0) + 1
        if plan.slow:
            await asyncio.sleep(plan.slow)
        fails = plan.fails < 0 or seen <= plan.fails
        if plan.form == "nothing" and fails:
            self._transport.close()
            return
        if plan.form == "redirect":
            self._write(307, "text/plain", b"elsewhere", [("location", "http://127.0.0.1:1/v1/chat/completions")])
            return
        if plan.status != 200 and fails:
            headers = [("retry-after", plan.retry_after)] if plan.retry_after else []
            error = {"error": {"message": f"status {plan.status}", "type": "tests", "param": None, "code": "tests"}}
            self._write(plan.status, "application/json", json.dumps(error).encode(), headers)
            return
        content_type, body = answer_of(path, plan, fields.get("model", ""), fields.get("stream") is True)
        headers = [("x-long", "x" * plan.header_bytes)] if plan.header_bytes else []
        if isinstance(body, bytes):
            if plan.form == "malformed":
                body = b'{"id": "chatcmpl-1", "choices": [{'
            if plan.form == "gzip":
                body, headers = gzip.compress(body, mtime=0), [*headers, ("content-encoding", "gzip")]
            if plan.cut >= 0 and fails:
                self._transport.write(_head(200, content_type, headers, len(body)) + body[: plan.cut])
                self._transport.close()
                return
            self._write(200, content_type, body, headers)
            return
        self._transport.write(_head(200, content_type, headers, None))
        for number, event in enumerate(body):
            if number == plan.cut and fails:
                self._transport.close()
                return
            if number == plan.hang:
                await asyncio.get_running_loop().create_future()
            if plan.pause and number:
                await asyncio.sleep(plan.pause)
            if plan.form == "clock":
                event = event.replace(_NOW.encode(), b"%d" % time.monotonic_ns())  # noqa: PLW2901 - the same event
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        self._transport.write(b"0\r\n\r\n")

    def _write(self, status: int, content_type: str, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self._transport.write(_head(status, content_type, headers or [], len(body)) + body)


def _head(status: int, content_type: str, headers: list[tuple[str, str]], length: int | None) -> bytes:
    size = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
    own = [
        ("x-request-id", "req-1"),
        ("x-ratelimit-remaining-requests", "99"),
        ("set-cookie", "a=b"),
        ("server", "tests"),
    ]
    lines = [f"{name}: {value}" for name, value in [("content-type", content_type), size, *own, *headers]]
    return "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode()


_PREBUILT: dict[tuple[str, bool], bytes] = {}


def _whole(path: str, is_stream: bool) -> bytes:
    content_type, body = answer_of(path, Plan(), "model", is_stream)
    if isinstance(body, bytes):
        return _head(200, content_type, [], len(body)) + body
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in body)
    return _head(200, content_type, [], None) + chunks + b"0\r\n\r\n"


async def _serve(upstream: Upstream, port: int, ready: Callable[[], None], stop: asyncio.Event) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(upstream), "127.0.0.1", port, backlog=1024
    )
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    ready()
    await stop.wait()
    server.close()
    for transport in list(upstream.connections):
        transport.abort()
    while upstream.connections:
        await asyncio.sleep(0.001)


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """Run the server in a thread of this process."""
    upstream = Upstream()
    loop = asyncio.new_event_loop()
    is_ready = threading.Event()
    stop = asyncio.Event()
    thread = threading.Thread(
        target=lambda: loop.run_until_complete(_serve(upstream, 0, is_ready.set, stop)), daemon=True
    )
    thread.start()
    assert is_ready.wait(30)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    port = parser.parse_args().port
    upstream = Upstream(keeps_requests=False)
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()

    def ready() -> None:
        sys.stdout.write(f"{upstream.url}\n")
        sys.stdout.flush()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(stop.set)), daemon=True).start()

    loop.run_until_complete(_serve(upstream, port, ready, stop))


if __name__ == "__main__":
    main()
