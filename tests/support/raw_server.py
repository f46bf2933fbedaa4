"""A real TCP server on the loopback that may answer HTTP requests with any bytes at any pace."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class RawRequest:
    """What a client sent: the lines of its head as they came, and its body."""

    head: bytes
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Peer:
    """The server's end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError where the client is gone."""
        self._connection.sendall(data)

    def drip(self, pieces: Iterator[bytes], pause_s: float) -> None:
        """Send pieces with pauses, until there are no more or the client is gone."""
        for piece in pieces:
            if self.is_gone(pause_s):
                return
            self.send(piece)

    def is_gone(self, wait_s: float) -> bool:
        """Wait; tell whether the client hung up meanwhile."""
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            readable, _, _ = select.select([self._connection], [], [], left_s)
            if readable:
                return self._connection.recv(1 << 16) == b""
        return False

    def reset(self) -> None:
        """Break the connection by a TCP reset."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._connection.close()


def answer(status: int = 200, body: bytes = b"", headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole answer in bytes."""
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers)]
    if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


class RawServer:
    """Use as a context manager. `act` answers each request; it runs in the connection's own thread."""

    def __init__(self, act: Callable[[Peer, RawRequest], None] | None = None) -> None:
        self.act = act
        self.requests: list[RawRequest] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as reader:
            while request := self._read(reader):
                self.requests.append(request)
                if self.act is None:
                    break
                self.act(Peer(connection), request)
        self._open.discard(connection)

    @staticmethod
    def _read(reader: Any) -> RawRequest | None:
        lines = []
        while (line := reader.readline()) not in (b"\r\n", b""):
            lines.append(line)
        if not lines:
            return None
        lengths = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-length:")]
        return RawRequest(b"".join(lines), reader.read(int(lengths[0])) if lengths else b"")
