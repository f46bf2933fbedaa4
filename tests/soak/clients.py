"""Clients over real sockets, which note what came of each request."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.soak.mixture import UNSEEN_PATH, Question

# Nothing that is asked takes nearly as long: what has not come by then is lost.
PATIENCE_S = 120.0
# Servers close connections that idle; one that is used again soon is not closed in that moment.
_IDLE_S = 1.0


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        sent: Requests by kind.
        outcomes: By what came of them.
        statuses: Requests by path and status, of those whose client stayed to the end.
        cut: Answers that broke off, of those.
        faults: What must not be, each once with its first example.
    """

    sent: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    cut: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, question: Question, detail: object) -> None:
        """Note what must not be."""
        self.outcomes[f"fault: {what}"] += 1
        self.faults.setdefault(what, f"{question.kind}, {question.path}, {question.body[:200]!r}: {detail}"[:1000])


class CutError(Exception):
    """The connection was closed within an answer."""


async def ask_all(port: int, rng: random.Random, draw: Callable[[], Question | None], seen: Seen) -> None:
    """Ask one request after the other, until there are no more. One client."""
    connection: Connection | None = None
    loop = asyncio.get_running_loop()
    last_s = loop.time()
    while (question := draw()) is not None:
        if connection is not None and (loop.time() - last_s > _IDLE_S or rng.random() < 0.02):
            connection.close()
            connection = None
        if connection is None:
            connection = await Connection.to(port)
        try:
            is_open = await asyncio.wait_for(_ask(connection, question, rng, seen), PATIENCE_S)
        except (asyncio.TimeoutError, TimeoutError):
            seen.fault("lost: no answer and no end of the connection", question, f"{PATIENCE_S:g} s")
            is_open = False
        if not is_open:
            connection.close()
            connection = None
        last_s = loop.time()
    if connection is not None:
        connection.close()


async def _ask(connection: Connection, question: Question, rng: random.Random, seen: Seen) -> bool:
    """Ask; note what came of it. Return whether the connection can be used again."""
    length = len(question.body) if question.declared is None else question.declared
    head = (
        f"POST {question.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\n\r\n"
    ).encode()
    seen.sent[question.kind] += 1
    if question.leaves == "within the request":
        connection.write(head + question.body[: rng.randrange(len(question.body))])
    else:
        connection.write(head + question.body)
    if question.leaves in ("within the request", "before the answer"):
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.001, 0.01)))
        seen.outcomes["left by the client"] += 1
        return False
    try:
        status, headers = await connection.head()
    except (CutError, ConnectionError) as error:
        seen.fault("the connection was closed without an answer", question, error)
        return False
    if question.leaves:
        await asyncio.sleep(rng.choice((0.0, 0.002, 0.02)))
        seen.outcomes["left by the client"] += 1
        return False
    if status not in question.statuses:
        seen.fault(f"status {status}", question, headers)
    if question.path != UNSEEN_PATH:
        seen.statuses[question.path, status] += 1
    try:
        body = await connection.body(headers)
    except (CutError, ConnectionError) as error:
        seen.cut += 1
        seen.outcomes["broken off visibly"] += 1
        if status != 200:
            seen.fault("an error that broke off", question, error)
        return False
    if status == 200:
        seen.outcomes["answered"] += 1
        if question.expected is not None and body != question.expected:
            seen.fault("a wrong answer", question, body[:300])
    else:
        seen.outcomes["refused"] += 1
        if status not in (307,) and b'"error"' not in body:
            seen.fault("an error without a reason", question, body[:300])
    return question.declared is None and headers.get("connection") != "close"


class Connection:
    """HTTP/1.1 as a client speaks it, no more of it than is needed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers. Raises CutError, ConnectionError."""
        try:
            data = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise CutError(f"the head ends after {error.partial!r}") from None
        lines = data.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return int(lines[0].split(" ")[1]), headers

    async def body(self, headers: dict[str, str]) -> bytes:
        """Return the whole body. Raises CutError, ConnectionError."""
        try:
            if "content-length" in headers:
                return await self._reader.readexactly(int(headers["content-length"]))
            pieces = []
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                pieces.append((await self._reader.readexactly(size + 2))[:-2])
            await self._reader.readexactly(2)
            return b"".join(pieces)
        except asyncio.IncompleteReadError as error:
            raise CutError(f"the body ends after {error.partial[:100]!r}") from None

    def close(self) -> None:
        self._writer.close()
