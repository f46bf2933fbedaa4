"""HTTP to the servers of models: pooled connections, bounded waits, and the headers that may go each way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from routellm_fast.endpoints import ApiKey, key_for
from routellm_fast.errors import EndpointError
from routellm_fast.gateway.breaker import Breaker
from routellm_fast.gateway.settings import FailureSettings, UpstreamSettings
from routellm_fast.shown import shown

# What of a client's headers an upstream gets. Keys, cookies and addresses of clients are none of its business.
_SENT: Final = frozenset({
    "accept", "anthropic-beta", "anthropic-version", "content-type", "idempotency-key", "openai-beta", "tracestate",
    "user-agent", "x-request-id",
})  # fmt: skip
# What of an upstream's headers a client does not get: those of the connection, and those of the upstream's own site.
_KEPT_BACK: Final = frozenset({
    b"alt-svc", b"connection", b"date", b"keep-alive", b"nel", b"proxy-authenticate", b"proxy-connection", b"report-to",
    b"server", b"set-cookie", b"strict-transport-security", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
_ANTHROPIC_VERSION: Final = "2023-06-01"
# Keep idle connections for less long than servers do, so that none is closed while a request is on its way.
_KEEP_IDLE_S: Final = 4.0
_MOST_HEADER_BYTES: Final = 1 << 16


class UpstreamFailure(Exception):  # noqa: N818
    """An upstream gave no answer. Raised and caught within the gateway.

    Attributes:
        kind: One word: "timeout", "unreachable", "broken" (the connection ended within an answer), or "resting" (it
            failed often and is not asked for a while).
        is_unsent: Whether it certainly has seen nothing of the request.
    """

    def __init__(self, kind: str, text: str, *, is_unsent: bool = False) -> None:
        """Keep what happened."""
        super().__init__(text)
        self.kind, self.is_unsent = kind, is_unsent


class Upstream:
    """One server. Belongs to the event loop in which it is opened."""

    def __init__(self, name: str, settings: UpstreamSettings, failure: FailureSettings) -> None:
        """Read the key, and connect to nothing yet.

        Raises:
            EndpointError: There is no key where one is needed, or its file cannot be read.
            InvalidArgumentError: The named environment variable is not set.
        """
        self.name, self.settings = name, settings
        self.breaker = Breaker(failure.breaker_failures, failure.breaker_open_s)
        self._key = _key(settings)
        address, mark, query = settings.base_url.partition("?")
        self._address, self._query = address, f"{mark}{query}"
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._fixed: dict[str, str] = {"accept-encoding": "identity"}
        if self._key and settings.dialect == "anthropic":
            self._fixed["x-api-key"] = self._key.reveal()
        elif self._key:
            self._fixed["authorization"] = f"Bearer {self._key.reveal()}"
        self._fixed.update({name.lower(): value for name, value in settings.headers.items()})

    def is_like(self, other: Upstream) -> bool:
        """Whether another upstream would do the same."""
        mine, others = self.breaker.rule, other.breaker.rule
        return (self.settings, self._key, mine) == (other.settings, other._key, others)

    def scrub(self, text: str) -> str:
        """Return a text without the server's key."""
        return self._key.scrub(text)

    async def open(self) -> None:
        """Make the pool of connections."""
        settings = self.settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections, keepalive_timeout=_KEEP_IDLE_S, ttl_dns_cache=60
            ),
            timeout=aiohttp.ClientTimeout(
                total=settings.total_timeout_s,
                sock_connect=settings.connect_timeout_s,
                sock_read=settings.silence_timeout_s,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            max_line_size=_MOST_HEADER_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
            read_bufsize=1 << 18,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], traceparent: str = ""
    ) -> aiohttp.ClientResponse:
        """Send a request and return its answer, whose body is not read yet.

        Args:
            path: The path after the base URL.
            body: The request's body.
            headers: The client's headers, names in lower case.
            traceparent: The trace context to send; "" sends none.

        Raises:
            UpstreamFailure: There is no answer.
        """
        sent = {name: value for name, value in headers.items() if name in _SENT}
        sent.update(self._fixed)
        if self.settings.dialect == "anthropic":
            sent.setdefault("anthropic-version", _ANTHROPIC_VERSION)
        if traceparent:
            sent["traceparent"] = traceparent
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(f"{self._address}{path}{self._query}", encoded=True)
        assert self._session is not None  # noqa: S101 - opened with the gateway
        try:
            return await self._session.post(url, data=body, headers=sent, allow_redirects=False)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise self._failure(error) from error

    def failure_while_reading(self, error: BaseException) -> UpstreamFailure:
        """Return what an error means that was raised while an answer's body was read."""
        failure = self._failure(error)
        kind = "timeout" if failure.kind == "timeout" else "broken"
        return UpstreamFailure(kind, str(failure))

    def _failure(self, error: BaseException) -> UpstreamFailure:
        detail = shown(self.scrub(str(error) or type(error).__name__))
        host = urlsplit(self._address).netloc
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            seconds = self.settings.connect_timeout_s
            return UpstreamFailure("unreachable", f"{self.name} ({host}): no connection within {seconds:g} s",
                                   is_unsent=True)  # fmt: skip
        if isinstance(error, asyncio.TimeoutError):
            return UpstreamFailure("timeout", f"{self.name} ({host}): no answer in time: {detail}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return UpstreamFailure("unreachable", f"{self.name} ({host}): {detail}", is_unsent=True)
        return UpstreamFailure("broken", f"{self.name} ({host}): {detail}")


def headers_for_client(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return of an answer's raw headers those that a client gets."""
    return [(lowered, value) for name, value in headers if (lowered := name.lower()) not in _KEPT_BACK]


def _key(settings: UpstreamSettings) -> ApiKey:
    given = None
    if settings.api_key_file:
        path = Path(os.path.expandvars(settings.api_key_file)).expanduser()
        try:
            given = ApiKey(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise EndpointError(f"the key file {path} cannot be read: {error}") from error
        if not given:
            raise EndpointError(f"the key file {path} is empty")
    return key_for(settings.base_url, given=given, variable=settings.api_key_env)
