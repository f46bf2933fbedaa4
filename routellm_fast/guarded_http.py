"""Clients of the openai package whose requests and answers are bounded: what goes where, how long, and how much.

A guard stands between the openai package and httpx, and rules every request that carries texts or keys:

* To a server that may not see the environment (endpoints.may_see_environment) go the request's body, its key and
  headers that this module writes. The openai package would add the organization, project and headers of OPENAI_*
  variables; these are left out, whatever their names are.
* A redirect is not followed: its status and address are the answer.
* One deadline covers connecting, sending, waiting and reading.
* An answer is read in pieces, decompressed in pieces, and given up where it is larger than the caller expects.

Open clients leave out the last two, as their answers may be streams without an end.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from routellm_fast.endpoints import ApiKey, asked_pause_s, client_address, may_see_environment

# The longest pause in seconds that a server can ask for; a server that asks for a longer one is not asked again.
LONGEST_PAUSE_S: Final = 120.0
# An error's reason stands at the beginning of its body.
_MOST_ERROR_BYTES: Final = 1 << 16
# What an answer that cannot be compressed grows by, and more.
_COMPRESSION_OVERHEAD_BYTES: Final = 1 << 16
# The encodings that zlib reads by itself, in pieces of any size. Those of httpx unpack a whole piece at once.
_ENCODINGS: Final = ("gzip", "x-gzip", "deflate")
# Headers of an answer that no longer hold once it is read, that are state which nobody asked for, or that decide what
# is decided here.
_DROPPED: Final = frozenset(
    {b"content-encoding", b"content-length", b"transfer-encoding", b"set-cookie", b"x-should-retry"}
)


class Exchange:
    """One question to a server.

    Attributes:
        most_bytes: The most bytes of a good answer, after decompression.
        flaw: Why a good answer was not read, in words that follow "answered"; "" where it was.
    """

    __slots__ = ("flaw", "most_bytes")

    def __init__(self, most_bytes: int) -> None:
        """Expect an answer of at most so many bytes."""
        self.most_bytes = most_bytes
        self.flaw = ""


_EXCHANGE: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def expecting(most_bytes: int) -> Iterator[Exchange]:
    """Rule the request that is sent within, its retries included; the flaw of its answer is known at the end."""
    exchange = Exchange(most_bytes)
    token = _EXCHANGE.set(exchange)
    try:
        yield exchange
    finally:
        _EXCHANGE.reset(token)


def new_client(
    openai: Any, server: str, key: ApiKey, *, timeout_s: float, max_retries: int, http_client: Any = None
) -> Any:
    """Return an openai.OpenAI around the caller's httpx client, which is used as it is and stays open.

    The deadline covers the reading of an answer's body; until then, the client's own time-outs hold, each of timeout_s.

    Args:
        openai: The openai package.
        server: The server's checked address.
        key: The server's key.
        timeout_s: Seconds that an attempt may take.
        max_retries: Number of further attempts, >= 0.
        http_client: The httpx client.

    Raises:
        TypeError: http_client is none.
    """
    guard = _guard(_Guard, "Client", http_client, openai, server, key, timeout_s, is_given=True)
    return _client(openai.OpenAI, guard, server, key, timeout_s, max_retries)


def new_async_client(
    openai: Any, server: str, key: ApiKey, *, timeout_s: float, max_retries: int, http_client: Any = None
) -> Any:
    """Return an openai.AsyncOpenAI; arguments and errors are those of new_client, and http_client may be None.

    The deadline covers an attempt whole.
    """
    is_given = http_client is not None
    inner = http_client if is_given else openai.DefaultAsyncHttpxClient()
    guard = _guard(_AsyncGuard, "AsyncClient", inner, openai, server, key, timeout_s, is_given=is_given)
    return _client(openai.AsyncOpenAI, guard, server, key, timeout_s, max_retries)


def new_open_client(openai: Any, server: str, key: ApiKey) -> Any:
    """Return an openai.OpenAI for answers of any length, streams too: only what is sent, and where, is ruled.

    Its time-outs and retries are the openai package's. Arguments are those of new_client.
    """
    return _open_client(openai, openai.OpenAI, openai.DefaultHttpxClient(follow_redirects=False), server, key)


def new_open_async_client(openai: Any, server: str, key: ApiKey) -> Any:
    """Return an openai.AsyncOpenAI of the same kind."""
    inner = openai.DefaultAsyncHttpxClient(follow_redirects=False)
    return _open_client(openai, openai.AsyncOpenAI, inner, server, key)


def _open_client(openai: Any, kind: Any, http_client: Any, server: str, key: ApiKey) -> Any:
    if not may_see_environment(server):
        headers = _own_headers(openai, key)
        # Headers that a call names itself are added to these.
        kind = type(kind.__name__, (kind,), {"default_headers": property(lambda _: dict(headers))})
    return kind(api_key=key.reveal(), **client_address(server), http_client=http_client)


def _own_headers(openai: Any, key: ApiKey) -> dict[str, str]:
    return {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": f"OpenAI/Python {openai.__version__}",
        "Authorization": f"Bearer {key.reveal()}",
    }


def _client(kind: Any, guard: Any, server: str, key: ApiKey, timeout_s: float, max_retries: int) -> Any:
    return kind(
        api_key=key.reveal(),
        **client_address(server),
        timeout=timeout_s,
        max_retries=max_retries,
        http_client=guard,
    )


def _guard(
    kind: type, base_name: str, inner: Any, openai: Any, server: str, key: ApiKey, timeout_s: float, *, is_given: bool
) -> Any:
    """Return a guard that is a client of the httpx that `inner` is of: the openai package knows two of them."""
    base = next(
        (
            base
            for base in type(inner).__mro__
            if base.__name__ == base_name and base.__module__.partition(".")[0].startswith("httpx")
        ),
        None,
    )
    if base is None:
        raise TypeError(f"an HTTP client of this kind is an httpx.{base_name}, found {type(inner).__name__}")
    httpx = sys.modules[base.__module__.partition(".")[0]]
    guard = type(kind.__name__, (kind, base), {})(transport=httpx.MockTransport(_unused), trust_env=False)
    headers = _own_headers(openai, key)
    guard.ruled_by(inner, httpx, None if may_see_environment(server) else headers, timeout_s, is_given=is_given)
    return guard


def _unused(request: Any) -> Any:
    raise AssertionError(request)


class _Rules:
    """What guards for both ways of waiting have in common. The methods that openai calls are those of httpx."""

    def ruled_by(
        self, inner: Any, httpx: Any, headers: Mapping[str, str] | None, timeout_s: float, *, is_given: bool
    ) -> None:
        """Take the client that sends, its httpx, and the only headers that are sent; None sends all that are there."""
        self._inner, self._httpx = inner, httpx
        self._only_headers = headers
        self._timeout_s = timeout_s
        self._is_given = is_given

    def build_request(self, *arguments: Any, **options: Any) -> Any:
        """Build a request with what the client itself adds, such as headers that its maker chose."""
        return self._inner.build_request(*arguments, **options)

    def _allowed(self, request: Any) -> Any:
        """Return the request as it may be sent."""
        if self._only_headers is not None:
            request = self._inner.build_request(
                request.method,
                request.url,
                content=request.read(),
                headers=self._only_headers,
                extensions=request.extensions,
            )
        request.headers["Accept-Encoding"] = "gzip, deflate"
        return request

    def _timed_out(self, request: Any) -> Any:
        return self._httpx.ReadTimeout(f"no whole answer within {self._timeout_s:g} s", request=request)

    def _answer(self, request: Any, response: Any, body: Body) -> Any:
        """Return a response whose body is read, with openai's own request: openai looks there for marks of its own."""
        if body.damage:
            raise self._httpx.RemoteProtocolError(
                f"the answer's compressed data are damaged: {body.damage}", request=request
            )
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _DROPPED]
        if (asked_pause_s(response.headers, time.time()) or 0.0) > LONGEST_PAUSE_S:
            headers.append((b"x-should-retry", b"false"))
        return type(response)(response.status_code, headers=headers, content=body.content(), request=request)


class _Guard(_Rules):
    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request and return its answer, read."""
        del stream  # an answer is always read here
        until_s = time.monotonic() + self._timeout_s
        options["follow_redirects"] = False
        response = self._inner.send(self._allowed(request), stream=True, **options)
        try:
            body = Body(response.status_code, response.headers, _EXCHANGE.get())
            for piece in response.iter_raw():
                if time.monotonic() > until_s:
                    raise self._timed_out(request)
                if not body.takes(piece):
                    break
        finally:
            response.close()
        return self._answer(request, response, body)

    def close(self) -> None:
        """Leave the caller's client open."""


class _AsyncGuard(_Rules):
    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request and return its answer, read."""
        del stream
        options["follow_redirects"] = False
        try:
            return await asyncio.wait_for(self._sent(request, options), self._timeout_s)
        except (asyncio.TimeoutError, TimeoutError):
            failure = self._timed_out(request)
        raise failure

    async def _sent(self, request: Any, options: dict[str, Any]) -> Any:
        if not self._is_given:
            self._inner.cookies.clear()  # a server that knows a caller again is not wanted, nor endless cookies
        allowed = self._allowed(request)
        opened: list[Any] = []

        async def note(event: str, found: Mapping[str, Any]) -> None:
            if event.endswith("connect_tcp.complete"):
                opened.append(found["return_value"])

        allowed.extensions["trace"] = note
        try:
            response = await self._inner.send(allowed, stream=True, **options)
        except BaseException:
            # A handshake of TLS that is given up leaves its connection open, for as long as the server likes.
            for stream in opened:
                with suppress(Exception):
                    await stream.aclose()
            raise
        try:
            body = Body(response.status_code, response.headers, _EXCHANGE.get())
            async for piece in response.aiter_raw():
                if not body.takes(piece):
                    break
        finally:
            await response.aclose()
        return self._answer(request, response, body)

    async def aclose(self) -> None:
        """Close the connections; those of the caller's client stay open."""
        if not self._is_given:
            await self._inner.aclose()


class Body:
    """The body of an answer, read and decompressed in pieces, at most as many bytes as the answer may have."""

    def __init__(self, status: int, headers: Mapping[str, str], exchange: Exchange) -> None:
        """Begin to read an answer with this status and these headers; of a refusal only the beginning is kept."""
        self._exchange, exchange.flaw = exchange, ""
        self._is_good = 200 <= status < 300
        self._most = exchange.most_bytes if self._is_good else _MOST_ERROR_BYTES
        self._pieces: list[bytes] = []
        self._size = self._sent = 0
        self._unpacking: Any = None
        self._unpacking_error = ""
        self._is_cut = False
        encodings = [name for part in headers.get("content-encoding", "").split(",") if (name := part.strip().lower())]
        encodings = [name for name in encodings if name != "identity"]
        if len(encodings) == 1 and encodings[0] in _ENCODINGS:
            self._unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
        elif encodings:
            self._give_up(f"in the encoding {', '.join(encodings)[:80]!r}, where gzip was asked for")

    def takes(self, piece: bytes) -> bool:
        """Take a piece; return whether more is wanted."""
        if self._is_cut or self._unpacking_error:
            return False
        self._sent += len(piece)
        if self._unpacking is not None:
            try:
                piece = self._unpacking.decompress(piece, self._most + 1 - self._size)
            except zlib.error as error:
                self._unpacking_error = str(error)
                return False
        self._size += len(piece)
        self._pieces.append(piece)
        if self._size > self._most or self._sent > self._most + _COMPRESSION_OVERHEAD_BYTES:
            self._give_up(
                f"with more than {self._most:,} bytes, which is more than any answer to this request can hold"
            )
        return not self._is_cut

    @property
    def damage(self) -> str:
        """What is wrong with compressed data that were read to their end; "" for nothing."""
        is_short = self._unpacking is not None and self._sent and not self._unpacking.eof and not self._is_cut
        return self._unpacking_error or ("they end too early" if is_short else "")

    def content(self) -> bytes:
        """Return the body; of one that was given up, what was read of a refusal, and else nothing."""
        content = b"".join(self._pieces)
        return content[: self._most] if not self._is_cut or not self._is_good else b""

    def _give_up(self, flaw: str) -> None:
        self._is_cut = True
        if self._is_good:
            self._exchange.flaw = flaw
