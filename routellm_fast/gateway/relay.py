"""One request from beginning to end: read, choose, send, pass the answer on, record.

What reaches the client of an upstream's answer is what the upstream sent, byte by byte. Until its first byte has gone
to the client a request that failed can be sent again, or to the other model; after it, the connection is cut so that
the client sees that the answer is not whole.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import aiohttp

from routellm_fast.endpoints import asked_pause_s
from routellm_fast.errors import InvalidArgumentError, RouteLLMError, RoutingError
from routellm_fast.gateway.answers import AnswerReader
from routellm_fast.gateway.dialects import Dialect
from routellm_fast.gateway.exchange import Asked, Choice, Exchange, Sink, Traits
from routellm_fast.gateway.live import Live
from routellm_fast.gateway.request_body import RequestBody, read_body
from routellm_fast.gateway.upstream import Upstream, UpstreamFailure, headers_for_client

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
_Headers: TypeAlias = list[tuple[bytes, bytes]]

# Answers up to this size are read whole before they are sent on: one that breaks off can then be asked for again.
_WHOLE_BYTES: Final = 1 << 20
# A fault on the wire is the upstream's; the statuses of a gateway say so.
_STATUSES: Final = {"timeout": 504, "unreachable": 502, "broken": 502, "resting": 503}
_log: Final = logging.getLogger("routellm_fast.gateway")
_NO_TRAITS: Final = Traits()


class ClientGone(Exception):  # noqa: N818
    """The client closed its connection. Raised and caught within the gateway."""


class Refusal(Exception):  # noqa: N818
    """The gateway itself answers a request with an error. Raised and caught within the gateway."""

    def __init__(self, status: int, kind: str, text: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Keep status, the error's one-word name, its text and further headers."""
        super().__init__(text)
        self.status, self.kind, self.headers = status, kind, tuple(headers)


class Relay:
    """Answers requests with the models' answers. One for each event loop."""

    def __init__(self, live: Callable[[], Live], sinks: Sequence[Sink]) -> None:
        """Answer by what `live` returns at a request's beginning, and tell the sinks of each request."""
        self._live, self._sinks = live, tuple(sinks)
        self._mirrors: set[asyncio.Task[None]] = set()

    async def answer(self, dialect: Dialect, client: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Args:
            dialect: The endpoint's.
            client: The client's name, "" for none.
            scope: The request, by ASGI.
            receive: Its body.
            send: Where the answer goes.
        """
        began = time.perf_counter()
        live = self._live()
        exchange = Exchange(dialect.path, client=client)
        for sink in self._sinks:
            sink.began(exchange)
        live.enter()
        call = _Call(live, dialect, exchange, send, began)
        try:
            await call.run(scope, receive)
        except ClientGone:
            exchange.error = exchange.error or "client_gone"
        except asyncio.CancelledError:
            exchange.error = exchange.error or ("client_gone" if call.is_client_gone else "stopped")
            if not call.is_client_gone:
                raise
        finally:
            exchange.total_s = time.perf_counter() - began
            live.leave()
            self._end(live, call)

    async def refuse(self, dialect: Dialect, refusal: Refusal, send: Send) -> None:
        """Answer a request that is not let in; the sinks are told of it like of any other."""
        exchange = Exchange(dialect.path, status=refusal.status, error=refusal.kind)
        for sink in self._sinks:
            sink.began(exchange)
        try:
            await refuse(refusal, dialect, send)
            exchange.is_complete = True
        finally:
            for sink in self._sinks:
                sink.ended(exchange)

    async def finish(self, timeout_s: float) -> None:
        """Wait for mirrored requests, and stop those that take longer."""
        if self._mirrors:
            _, late = await asyncio.wait(self._mirrors, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _end(self, live: Live, call: _Call) -> None:
        exchange = call.exchange
        if call.asked is not None:
            live.chooser.answered(call.asked, exchange)
        for sink in self._sinks:
            sink.ended(exchange)
        if call.wants_mirror and exchange.is_complete and 200 <= exchange.status < 300:
            choice, has_room = exchange.choice, len(self._mirrors) < live.settings.mirror.max_in_flight
            if has_room and choice is not None and choice.other and choice.router and exchange.model == choice.model:
                live.enter()
                task = asyncio.get_running_loop().create_task(self._mirror(live, call, choice.other))
                self._mirrors.add(task)
                task.add_done_callback(self._mirrors.discard)

    async def _mirror(self, live: Live, call: _Call, model: str) -> None:
        """Send the request to the other model too, and tell the sinks of its answer."""
        exchange = call.exchange
        other = Exchange(
            exchange.endpoint,
            client=exchange.client,
            asked_model=exchange.asked_model,
            choice=exchange.choice,
            is_stream=exchange.is_stream,
            text=exchange.text,
        )
        began = time.perf_counter()
        try:
            await call.ask_silently(model, other)
        except UpstreamFailure as failure:
            other.error = failure.kind
        finally:
            other.total_s = time.perf_counter() - began
            exchange.mirrored = other
            live.chooser.mirrored(exchange)
            live.leave()
            for sink in self._sinks:
                sink.mirrored(exchange)


class _Call:
    """One request under way."""

    def __init__(self, live: Live, dialect: Dialect, exchange: Exchange, send: Send, began: float) -> None:
        self.live, self.exchange = live, exchange
        self.asked: Asked | None = None
        self.is_client_gone = False
        share = live.settings.mirror.share
        self.wants_mirror = share > 0.0 and random.random() < share  # noqa: S311 - a sample, no secret
        self._dialect, self._send, self._began = dialect, send, began
        self._headers: dict[str, str] = {}
        self._body: RequestBody | None = None

    async def run(self, scope: Scope, receive: Receive) -> None:
        """Answer the request, whatever it is."""
        watch: asyncio.Task[None] | None = None
        try:
            self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            self.exchange.traceparent = self._headers.get("traceparent", "")
            body = self._body = await self._read_in_time(receive)
            choice = await self._choose(body)
            watch = self._watch(receive)
            await self._relay(body, choice)
        except Refusal as refusal:
            await self._refuse(refusal)
        except ClientGone:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer and the log gets the fault
            _log.exception("a fault of the gateway's own, in request %s", self.exchange.id)
            if self.exchange.status:  # the answer has begun: the server cuts it off
                self.exchange.error = "internal"
            else:
                await self._refuse(Refusal(500, "internal", "the gateway failed; its log says why"))
        finally:
            if watch is not None:
                watch.cancel()

    def _watch(self, receive: Receive) -> asyncio.Task[None]:
        """End the call as soon as its client goes away: what nobody reads is not paid for."""
        running = asyncio.current_task()

        async def watching() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if running is not None and not self.exchange.is_complete:
                self.is_client_gone = True
                running.cancel()

        return asyncio.get_running_loop().create_task(watching())

    # --- the request

    async def _read_in_time(self, receive: Receive) -> RequestBody:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this runs in one
        timeout_s = self.live.settings.limits.body_timeout_s
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = task.cancel()

        # Less work than asyncio's own time-outs, which make a task for each wait.
        timer = asyncio.get_running_loop().call_later(timeout_s, give_up)
        try:
            return await self._read(receive)
        except asyncio.CancelledError:
            if not is_late:
                raise
            raise Refusal(408, "timeout", f"the body did not arrive within {timeout_s:g} s") from None
        finally:
            timer.cancel()

    async def _read(self, receive: Receive) -> RequestBody:
        limits = self.live.settings.limits
        declared = self._headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limits.max_body_bytes:
            raise _too_large(limits.max_body_bytes)
        pieces: list[bytes] = []
        size, has_more = 0, True
        while has_more:
            message = await self._received(receive)
            pieces.append(message.get("body", b""))
            has_more = message.get("more_body", False)
            size += len(pieces[-1])
            if size > limits.max_body_bytes:
                raise _too_large(limits.max_body_bytes)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            body = read_body(data)
        except InvalidArgumentError as error:
            raise Refusal(400, "invalid_request", str(error)) from None
        if not body.model:
            raise Refusal(
                400, "invalid_request", "the body has no model: name a router, such as router-NAME, or a model"
            )
        self.exchange.asked_model = body.model
        return body

    async def _received(self, receive: Receive) -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def _choose(self, body: RequestBody) -> Choice:
        live, exchange, dialect = self.live, self.exchange, self._dialect
        try:
            asked = self.asked = self._asked(body)
            exchange.text = asked.text
            exchange.is_stream = body.fields.get("stream") is True
            exchange.read_s = (started := time.perf_counter()) - self._began
            choice = await live.chooser.choose(asked)
        except RoutingError as error:
            # RouteLLM's server answers 400 to a router's name that it does not know.
            status = 400 if live.routers.is_router_name(body.model) else 404
            raise Refusal(status, "model_not_found", str(error)) from None
        except InvalidArgumentError as error:
            raise Refusal(400, "invalid_request", str(error)) from None
        except RouteLLMError as error:
            raise Refusal(503, "router_failed", f"the router could not decide: {error}") from error
        exchange.decide_s = time.perf_counter() - started
        exchange.choice = choice
        _, upstream = live.model(choice.model)
        if upstream.settings.dialect != dialect.api:
            text = f"{choice.model} is behind {upstream.settings.dialect}'s API, and {dialect.path} is {dialect.api}'s"
            raise Refusal(400, "wrong_endpoint", text)
        return choice

    def _asked(self, body: RequestBody) -> Asked:
        live, dialect, fields = self.live, self._dialect, body.fields
        target = live.settings.aliases.get(body.model, body.model)
        sessions = live.settings.sessions
        if not live.routers.is_router_name(target):
            text, traits = "", _NO_TRAITS  # nothing is routed, so nothing needs to be understood
            conversation, is_continued = "", False
        else:
            if not dialect.is_routed:
                raise RoutingError(
                    f"{dialect.path} takes a model's name, not a router's: vectors of two models cannot be mixed. "
                    f"Models: {', '.join(live.settings.models)}"
                )
            text = dialect.text(fields)
            traits = dialect.traits(fields, text)
            conversation, is_continued = "", False
            if sessions is not None:
                header = self._headers.get(sessions.header.lower())
                conversation, is_continued = dialect.conversation(fields, self.exchange.client, header)
        return Asked(
            body.model,
            text,
            traits,
            self._headers,
            self.exchange.client,
            conversation,
            is_continued,
            dialect.previous_response(fields),
        )

    # --- the answer

    async def _relay(self, body: RequestBody, choice: Choice) -> None:
        """Ask the chosen model, again where that may help, and at last the other one."""
        settings = self.live.settings.on_failure
        models = [choice.model]
        if choice.other is not None and settings.other_model:
            models.append(choice.other)
        held: _Held | None = None
        failure: UpstreamFailure | None = None
        for model in models:
            for attempt in range(settings.retries + 1):
                pause_s: float | None = None
                try:
                    held = await self._attempt(body, model)
                    if held is None:
                        return
                    pause_s = held.pause_s
                except UpstreamFailure as error:
                    held, failure = None, error
                    if error.kind in ("resting", "timeout"):  # to ask once more would take as long again
                        break
                if pause_s is None:
                    jitter = random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries, no secret
                    pause_s = min(settings.backoff_s * 2.0**attempt, settings.max_backoff_s) * jitter
                elif pause_s > settings.max_backoff_s:
                    break
                if attempt < settings.retries:
                    await asyncio.sleep(pause_s)
        if held is not None:
            await self._pass_whole(held.model, held.status, held.headers, held.data)
        elif failure is not None:
            raise Refusal(_STATUSES[failure.kind], f"upstream_{failure.kind}", str(failure))

    async def _attempt(self, body: RequestBody, model: str) -> _Held | None:
        """Ask a model once. Return None where its answer went to the client, else an answer that may be asked anew.

        Raises:
            UpstreamFailure: There was no answer, and the client has seen nothing.
        """
        response, upstream = await self._asked_upstream(body, model, self.exchange)
        try:
            if response.status in self.live.settings.on_failure.retry_statuses:
                data = await self._whole(response, upstream)
                # What is too much for an upstream today is no fault of it.
                (upstream.breaker.succeeded if response.status < 500 else upstream.breaker.failed)()
                pause_s = asked_pause_s(response.headers, time.time())
                return _Held(model, response.status, headers_for_client(response.raw_headers), data, pause_s)
            upstream.breaker.succeeded()
            await self._pass_on(response, model, upstream)
        except UpstreamFailure:
            upstream.breaker.failed()
            raise
        finally:
            response.close()
        return None

    async def _asked_upstream(
        self, body: RequestBody, model: str, exchange: Exchange
    ) -> tuple[aiohttp.ClientResponse, Upstream]:
        settings, upstream = self.live.model(model)
        if not upstream.breaker.allows():
            raise UpstreamFailure(
                "resting",
                f"{upstream.name} failed {self.live.settings.on_failure.breaker_failures} times in a row and is asked "
                f"again in {upstream.breaker.retry_after_s:.0f} s",
            )
        name = settings.name or model
        data = body.data if name == body.model else body.asking(name)
        exchange.attempts += 1
        exchange.model, exchange.upstream = model, upstream.name
        sent = time.perf_counter()
        try:
            response = await upstream.post(self._dialect.upstream_path, data, self._headers, exchange.traceparent)
        except UpstreamFailure:
            upstream.breaker.failed()
            raise
        exchange.first_byte_s = time.perf_counter() - sent
        return response, upstream

    async def _whole(self, response: aiohttp.ClientResponse, upstream: Upstream) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise upstream.failure_while_reading(error) from error

    async def _pass_on(self, response: aiohttp.ClientResponse, model: str, upstream: Upstream) -> None:
        """Send the client an answer as it comes."""
        headers = headers_for_client(response.raw_headers)
        is_stream = response.content_type == "text/event-stream"
        length = response.content_length
        if not is_stream and length is not None and length <= _WHOLE_BYTES:
            await self._pass_whole(model, response.status, headers, await self._whole(response, upstream))
            return
        exchange = self.exchange
        reader = AnswerReader(self._dialect, is_stream=is_stream, wants_text=self.wants_mirror)
        exchange.is_stream = is_stream
        pieces = response.content.iter_any()
        has_begun = False
        try:
            while True:
                try:
                    piece = await anext(pieces, b"")
                except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                    failure = upstream.failure_while_reading(error)
                    if not has_begun:
                        raise failure from error
                    upstream.breaker.failed()
                    await self._cut(failure, reader)
                    return
                if not has_begun:
                    await self._begin(model, response.status, headers)
                    has_begun = True
                if not piece:
                    break
                reader.feed(piece)
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            exchange.is_complete = True
            await self._send({"type": "http.response.body", "body": b""})
        finally:
            if has_begun:
                reader.finish()
                self._account(reader, exchange)

    async def _pass_whole(self, model: str, status: int, headers: _Headers, data: bytes) -> None:
        reader = AnswerReader(self._dialect, is_stream=False, wants_text=self.wants_mirror)
        if 200 <= status < 300:
            reader.feed(data)
            reader.finish()
            self._account(reader, self.exchange)
        await self._begin(model, status, headers)
        self.exchange.is_complete = True
        await self._send({"type": "http.response.body", "body": data})

    async def _begin(self, model: str, status: int, headers: _Headers) -> None:
        exchange = self.exchange
        exchange.status = status
        if status >= 400:
            exchange.error = "upstream_status"
        await self._send(
            {"type": "http.response.start", "status": status, "headers": headers + self._own_headers(model)}
        )

    async def _cut(self, failure: UpstreamFailure, reader: AnswerReader) -> None:
        """End an answer that has begun so that the client sees that it is not whole."""
        self.exchange.error = f"upstream_{failure.kind}"
        if self.exchange.is_stream and reader.is_between_events:
            error = self._dialect.error(_STATUSES[failure.kind], str(failure), self.exchange.error)
            event = b"event: error\n" if self._dialect.api == "anthropic" else b""
            await self._send(
                {"type": "http.response.body", "body": event + b"data: " + error + b"\n\n", "more_body": True}
            )
        # The server closes a connection whose answer is left incomplete.

    async def _refuse(self, refusal: Refusal) -> None:
        exchange = self.exchange
        exchange.status, exchange.error, exchange.is_complete = refusal.status, refusal.kind, True
        await refuse(refusal, self._dialect, self._send, self._own_headers(exchange.model))

    def _own_headers(self, model: str) -> _Headers:
        """What the gateway itself tells the client."""
        exchange = self.exchange
        timing = f"read;dur={exchange.read_s * 1e3:.3f}, decide;dur={exchange.decide_s * 1e3:.3f}"
        if exchange.attempts:
            timing += f", upstream;dur={exchange.first_byte_s * 1e3:.3f}"
        headers = [
            (b"x-routellm-id", exchange.id.encode("ascii")),
            (b"server-timing", timing.encode("ascii")),
        ]
        if model:
            headers.append((b"x-routellm-model", model.encode("ascii")))
        choice = exchange.choice
        if choice is not None:
            headers.append((b"x-routellm-reason", choice.reason.encode("ascii")))
            if choice.router:
                headers.append((b"x-routellm-router", choice.router.encode("ascii")))
            if choice.rule:
                headers.append((b"x-routellm-rule", choice.rule.encode("ascii")))
            if choice.win_rate is not None:
                headers.append((b"x-routellm-win-rate", b"%.6g" % choice.win_rate))
            if choice.threshold is not None:
                headers.append((b"x-routellm-threshold", b"%.6g" % choice.threshold))
        return headers

    # --- what it cost

    def _account(self, reader: AnswerReader, exchange: Exchange) -> None:
        """Record the tokens of an answer and what they cost, here and at the strong model."""
        usage = exchange.usage = reader.usage(self._request_chars)
        exchange.answer, exchange.response_id = reader.text, reader.response_id
        models, choice = self.live.settings.models, exchange.choice
        settings = models[exchange.model]
        if settings.has_price:
            exchange.cost_usd = settings.cost_usd(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        if choice is not None and choice.router:
            among = [models[name] for name in self.live.settings.routers[choice.router].strong_models]
            costs = [entry.cost_usd(usage.input_tokens, usage.output_tokens) for entry in among if entry.has_price]
            exchange.strong_cost_usd = max(costs, default=None)

    def _request_chars(self) -> int:
        """Return about how many characters of text the request holds."""
        assert self._body is not None  # noqa: S101 - it was sent
        try:
            text = self._dialect.text(self._body.fields)
            chars = len(text) + self._dialect.traits(self._body.fields, text).history_chars
        except InvalidArgumentError:
            chars = 0
        return chars or len(self._body.data)

    async def ask_silently(self, model: str, exchange: Exchange) -> None:
        """Ask another model the same, and record its answer. Raises UpstreamFailure."""
        assert self._body is not None  # noqa: S101 - it was answered
        response, upstream = await self._asked_upstream(self._body, model, exchange)
        try:
            exchange.status = response.status
            is_stream = response.content_type == "text/event-stream"
            reader = AnswerReader(self._dialect, is_stream=is_stream, wants_text=True)
            try:
                async for piece in response.content.iter_any():
                    reader.feed(piece)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                raise upstream.failure_while_reading(error) from error
            reader.finish()
            if 200 <= response.status < 300:
                self._account(reader, exchange)
                exchange.is_complete = True
        finally:
            response.close()


class _Held(NamedTuple):
    """An answer that says to try again: kept, and sent on where nothing better comes."""

    model: str
    status: int
    headers: _Headers
    data: bytes
    pause_s: float | None


async def refuse(refusal: Refusal, dialect: Dialect, send: Send, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer a request with an error of the gateway's own."""
    body = dialect.error(refusal.status, str(refusal), refusal.kind)
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*own, *refusal.headers, *headers]})
    await send({"type": "http.response.body", "body": body})


def _too_large(max_body_bytes: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot be used again.
    text = f"the body is larger than {max_body_bytes:,} bytes, the most that limits.max_body_bytes allows"
    return Refusal(413, "request_too_large", text, [(b"connection", b"close")])
