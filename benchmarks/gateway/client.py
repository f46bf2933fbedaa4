"""Clients that add as little as they can to what a gateway takes: sockets, and requests that were bytes before.

One thread serves all connections of a load. It waits by select and not by an event loop, whose timers tick in
milliseconds.
"""

from __future__ import annotations

import ctypes
import json
import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# More requests than this that wait for an answer: the server does not carry the rate.
MOST_WAITING: Final = 1_000
# By how much longer than it should a turn at a fixed rate may take, and by how many seconds: a last answer may be late.
_MOST_STRETCH: Final = 1.05
_LATEST_ANSWER_S: Final = 0.5
# How long an answer may take.
_PATIENCE_S: Final = 60.0
_PIECE: Final = 1 << 18
_SENT_AT: Final = re.compile(rb"t=(\d+) ")
_PR_SET_TIMERSLACK: Final = 29


def request_of(path: str, fields: dict[str, Any]) -> bytes:
    """Return a whole HTTP request."""
    body = json.dumps(fields, ensure_ascii=False).encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        "Authorization: Bearer unused",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Connection:
    """One connection, and the answer that comes on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = bytearray()
        self.index = 0
        self.is_waiting = self.is_closed = False
        self._length = -1  # of the whole answer, where its head tells it
        self._has_head = False

    def send(self, request: bytes) -> None:
        """Send a request, after the answer to the one before."""
        self.answer.clear()
        self._length, self._has_head = -1, False
        self.is_waiting = True
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has come, or wait for it. Return whether the answer is whole. Raises ConnectionError."""
        piece = self.socket.recv(_PIECE)
        if not piece:
            raise ConnectionError(f"the connection was closed within an answer: {bytes(self.answer[:500])!r}")
        self.answer += piece
        if not self._has_head:
            self._read_head()
        if self._length >= 0:
            is_whole = len(self.answer) >= self._length
        else:
            is_whole = self._has_head and self.answer.endswith(b"0\r\n\r\n")
        self.is_waiting = not is_whole
        return is_whole

    def ask(self, request: bytes) -> bytes:
        """Send a request, and wait for its answer."""
        self.send(request)
        while not self.receive():
            pass
        return bytes(self.answer)

    def _read_head(self) -> None:
        end = self.answer.find(b"\r\n\r\n")
        if end < 0:
            return
        if not self.answer.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"the server answered {bytes(self.answer[:500])!r}")
        head = self.answer[:end].lower()
        self._has_head = True
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            self._length = end + 4 + int(head[at + 17 :].partition(b"\r\n")[0])

    def close(self) -> None:
        self.socket.close()
        self.is_closed = True


class Connections:
    """Connections to one server that are waited for together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, Connection] = {}

    def add(self) -> Connection:
        connection = Connection(self._port)
        self._epoll.register(connection.socket, select.EPOLLIN)
        self._by_descriptor[connection.socket.fileno()] = connection
        return connection

    def ready(self, timeout_s: float) -> list[Connection]:
        """Wait until something has come on some of those that wait for an answer; return these."""
        # Through select, because epoll's own time-outs are rounded up to milliseconds.
        select.select([self._epoll], [], [], max(0.0, timeout_s))
        found = [self._by_descriptor[descriptor] for descriptor, _ in self._epoll.poll(0)]
        for connection in found:
            if not connection.is_waiting:  # servers close connections that idle for some seconds
                del self._by_descriptor[connection.socket.fileno()]
                connection.close()
        return [connection for connection in found if not connection.is_closed]

    def close(self) -> None:
        for connection in self._by_descriptor.values():
            connection.close()
        self._epoll.close()


@contextmanager
def connections_to(port: int) -> Iterator[Connections]:
    """Yield connections that are closed at the end, and let this thread's waits end on time."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1_000, 0, 0, 0)  # nanoseconds by which the kernel may be late
    connections = Connections(port)
    try:
        yield connections
    finally:
        connections.close()


@dataclass(frozen=True, slots=True)
class Took:
    """What came of a load.

    Attributes:
        total_s: Seconds from the first request to the last answer.
        each_s: Seconds of each answered request. At a fixed rate they run from the moment at which the request was due,
            so that what a server delays is not left out because the client waited for it.
        late_s: By how much each request was sent after it was due; empty where none was due.
        is_carried: Whether the server kept up.
    """

    total_s: float
    each_s: NDArray[np.float64]
    late_s: NDArray[np.float64]
    is_carried: bool = True

    @property
    def per_s(self) -> float:
        return len(self.each_s) / self.total_s


def at_a_rate(port: int, requests: Sequence[bytes], per_s: float, seconds: float) -> Took:
    """Send requests at a fixed rate, whatever the server does; the requests repeat.

    Where MOST_WAITING of them wait for an answer, no more are sent: the server does not carry the rate. Nor does it
    where its answers fall behind.
    """
    count = max(1, round(per_s * seconds))
    each_s, late_s = np.full(count, np.nan), np.full(count, np.nan)
    free: list[Connection] = []
    sent = done = 0
    with connections_to(port) as connections:
        start = time.perf_counter() + 0.01
        deadline = start + seconds + _PATIENCE_S
        is_carried = True
        while done < sent or (sent < count and is_carried):
            now = time.perf_counter()
            while sent < count and is_carried and (due := start + sent / per_s) <= now:
                while free and free[-1].is_closed:
                    free.pop()
                connection = free.pop() if free else connections.add()
                connection.index = sent
                connection.send(requests[sent % len(requests)])
                late_s[sent] = now - due
                sent += 1
                is_carried = sent - done <= MOST_WAITING
                now = time.perf_counter()
            has_more = sent < count and is_carried
            for connection in connections.ready(start + sent / per_s - now if has_more else 1.0):
                if connection.receive():
                    each_s[connection.index] = time.perf_counter() - start - connection.index / per_s
                    free.append(connection)
                    done += 1
            if time.perf_counter() > deadline:
                raise ConnectionError(f"{sent - done} answers did not come within {_PATIENCE_S:g} s")
        total_s = time.perf_counter() - start
    has_kept_up = is_carried and total_s <= _MOST_STRETCH * count / per_s + _LATEST_ANSWER_S
    return Took(total_s, each_s[:sent], late_s[:sent], has_kept_up)


def by_clients(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Took:
    """Send requests for so long by so many clients, each its next one once it has an answer; the requests repeat."""
    each_s: list[float] = []
    sent_at: dict[int, float] = {}
    sent = waiting = 0
    with connections_to(port) as connections:
        start = time.perf_counter()
        for index in range(clients):
            connection = connections.add()
            connection.index = index
            sent_at[index] = time.perf_counter()
            connection.send(requests[sent % len(requests)])
            sent += 1
            waiting += 1
        while waiting:
            ready = connections.ready(_PATIENCE_S)
            if not ready:
                raise ConnectionError(f"{waiting} answers did not come within {_PATIENCE_S:g} s")
            for connection in ready:
                if not connection.receive():
                    continue
                now = time.perf_counter()
                each_s.append(now - sent_at[connection.index])
                if now - start < seconds:
                    sent_at[connection.index] = time.perf_counter()
                    connection.send(requests[sent % len(requests)])
                    sent += 1
                else:
                    waiting -= 1
        total_s = time.perf_counter() - start
    return Took(total_s, np.array(each_s), np.empty(0))


def streams(port: int, request: bytes, count: int, *, at_once: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read streams, so many at once, whose words say when they were sent.

    Returns:
        (count,) seconds from a request to the first event; (words,) seconds from a word's being sent to its arrival.
    """
    first_s: list[float] = []
    delays_s: list[float] = []
    sent_at: dict[int, float] = {}
    seen: dict[int, int] = {}  # up to where a connection's answer was looked through
    begun = 0
    with connections_to(port) as connections:
        waiting = 0
        while begun < min(count, at_once):
            connection = connections.add()
            connection.index = begun
            sent_at[connection.index], seen[connection.index] = time.perf_counter(), 0
            connection.send(request)
            begun += 1
            waiting += 1
        while waiting:
            ready = connections.ready(_PATIENCE_S)
            if not ready:
                raise ConnectionError(f"{waiting} streams went silent for {_PATIENCE_S:g} s")
            for connection in ready:
                is_whole = connection.receive()
                now, now_ns, index = time.perf_counter(), time.monotonic_ns(), connection.index
                if index in sent_at and b"data:" in connection.answer:
                    first_s.append(now - sent_at.pop(index))
                for match in _SENT_AT.finditer(connection.answer, seen[index]):
                    delays_s.append((now_ns - int(match[1])) * 1e-9)
                    seen[index] = match.end()
                if is_whole:
                    waiting -= 1
                    if begun < count:
                        sent_at[index], seen[index] = time.perf_counter(), 0
                        connection.send(request)
                        begun += 1
                        waiting += 1
    return np.array(first_s), np.array(delays_s)


@contextmanager
def idle_streams(port: int, request: bytes, count: int, patience_s: float) -> Iterator[int]:
    """Hold streams open that have begun and then say nothing; yield how many have begun within the time."""
    begun: set[int] = set()
    with connections_to(port) as connections:
        try:
            for _ in range(count):
                connections.add().send(request)
            deadline = time.monotonic() + patience_s
            while len(begun) < count and (left_s := deadline - time.monotonic()) > 0:
                for connection in connections.ready(left_s):
                    if not connection.receive() and b"data:" in connection.answer:
                        begun.add(connection.socket.fileno())
        except ConnectionError:
            pass  # it takes no more
        yield len(begun)
