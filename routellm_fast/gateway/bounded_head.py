"""uvicorn's HTTP protocol with bounds on a request's head: how many bytes it has, and how long it takes to arrive."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def bounded_protocol(max_head_bytes: int, head_timeout_s: float) -> type[asyncio.Protocol]:
    """Return a protocol for uvicorn's `http` that closes connections whose request line and headers exceed the bounds.

    The body's bounds are the application's.
    """
    return type(
        "BoundedProtocol", (_BoundedProtocol,), {"max_head_bytes": max_head_bytes, "head_timeout_s": head_timeout_s}
    )


class _BoundedProtocol(HttpToolsProtocol):
    max_head_bytes = 0
    head_timeout_s = 0.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._is_in_head = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self.max_head_bytes and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large", b"more than %d bytes of headers" % self.max_head_bytes)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._is_in_head:
            self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout", b"no request within %g s" % self.head_timeout_s)

    def _refuse(self, status: bytes, text: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, len(text), text)
        )
        self.transport.close()
