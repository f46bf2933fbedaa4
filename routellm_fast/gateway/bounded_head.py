"""uvicorn's HTTP protocol with bounds on a request's head: how many bytes it has, and how long it takes to arrive."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedProtocol(HttpToolsProtocol):
    """For uvicorn's `http`, by functools.partial: closes connections whose request line and headers exceed the bounds.

    The body's bounds are the application's.
    """

    def __init__(self, *arguments: Any, max_head_bytes: int, head_timeout_s: float, **options: Any) -> None:
        """Take the bounds, and what uvicorn gives."""
        super().__init__(*arguments, **options)
        self._max_head_bytes, self._head_timeout_s = max_head_bytes, head_timeout_s
        self._head_bytes = 0
        self._is_in_head = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the head's bytes."""
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self._max_head_bytes and not self.transport.is_closing():
            self._refuse(
                b"431 Request Header Fields Too Large", b"more than %d bytes of headers" % self._max_head_bytes
            )

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        super().on_message_begin()
        if not self._is_in_head:
            self._begin_head()

    def on_headers_complete(self) -> None:
        """Hand the head on."""
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        self._head_timer = self.loop.call_later(self._head_timeout_s, self._too_slow)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout", b"no request within %g s" % self._head_timeout_s)

    def _refuse(self, status: bytes, text: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, len(text), text)
        )
        self.transport.close()
