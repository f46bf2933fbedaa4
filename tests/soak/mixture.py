"""What the clients ask, drawn at random, and what may come of it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.gateway import EASY, HARD
from tests.support.upstream import Plan, answer_of

MOST_BODY_BYTES: Final = 4_000_000
# Their counters cannot be told from what the client saw: it went away, or was cut off while it still sent.
UNSEEN_PATH: Final = "/v1/completions"
# Where a model's server is killed, or rests after it failed, or fails by itself.
_FAILED: Final = (500, 502, 503, 504)
_CHAT: Final = "/v1/chat/completions"
_RESPONSES: Final = "/v1/responses"


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        kind: What the results call it.
        path: Its path.
        body: Its body.
        statuses: The statuses that it may get.
        expected: The body of an answer with status 200; None where it is not known beforehand.
        may_be_cut: Whether an answer may break off although no server was killed.
        leaves: Where the client goes away: "", "within the request", "before the answer", "within the answer".
        declared: The length that the head tells, where it is not the body's.
    """

    kind: str
    path: str
    body: bytes
    statuses: Sequence[int] = (200, *_FAILED)
    expected: bytes | None = None
    may_be_cut: bool = False
    leaves: str = ""
    declared: int | None = None


def drawn(rng: random.Random) -> Question:
    """Draw a request."""
    make = rng.choices(_MAKERS, _WEIGHTS)[0]
    return make(rng)


def _plain(rng: random.Random) -> Question:
    text = rng.choice((EASY, HARD))
    if rng.random() < 0.15:
        body, path = {"input": text}, _RESPONSES
    else:
        body, path = {"messages": [{"role": "user", "content": text}]}, _CHAT
    return _question("whole answers", path, body, rng, expected=_expected(path, is_stream=False))


def _stream(rng: random.Random) -> Question:
    text = rng.choice((EASY, HARD))
    if rng.random() < 0.15:
        body, path = {"input": text, "stream": True}, _RESPONSES
    else:
        body, path = {"messages": [{"role": "user", "content": text}], "stream": True}, _CHAT
    return _question("streams", path, body, rng, expected=_expected(path, is_stream=True))


def _slow_stream(rng: random.Random) -> Question:
    text = f"{EASY} @words={rng.randrange(1, 30)} @pause={rng.choice(('0.002', '0.01'))}"
    return _question("slow streams", _CHAT, {**_messages(text), "stream": True}, rng)


def _embedding(rng: random.Random) -> Question:
    return _question("embeddings", "/v1/embeddings", {"input": EASY}, rng, model=rng.choice(("big", "small")))


def _failing(rng: random.Random) -> Question:
    status = rng.choice((400, 404, 422, 429, 500, 503))
    text = f"{EASY} @status={status}" + (" @retry_after=0.01" if status == 429 else "")
    return _question("refused by the model", _CHAT, _messages(text), rng, statuses=(status, *_FAILED))


def _silent(rng: random.Random) -> Question:
    mark = rng.choice(("@form=nothing", "@form=malformed", "@form=redirect", "@form=gzip", "@slow=0.05"))
    return _question("odd answers of the model", _CHAT, _messages(f"{EASY} {mark}"), rng, statuses=(200, 307, *_FAILED))


def _cut(rng: random.Random) -> Question:
    text = f"{EASY} @cut={rng.randrange(0, 8)}"
    body = {**_messages(text), "stream": rng.random() < 0.7}
    return _question("broken off by the model", _CHAT, body, rng, may_be_cut=True)


def _big(rng: random.Random) -> Question:
    text = EASY + " x" * rng.randrange(50_000, MOST_BODY_BYTES // 4)
    return _question("big bodies", _CHAT, _messages(text), rng, expected=_expected(_CHAT, is_stream=False))


def _too_big(rng: random.Random) -> Question:
    del rng
    return Question("bodies that are too big", UNSEEN_PATH, b"{", (413,), declared=MOST_BODY_BYTES + 1)


def _bad(rng: random.Random) -> Question:
    text = _messages(EASY)
    bodies: list[tuple[Any, int]] = [
        (b"{", 400),
        (b"", 400),
        (b"[1]", 400),
        (b'{"messages": []}', 400),
        (b'{"model": 3}', 400),
        (bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200))), 400),
        ({"model": "gpt-9", **text}, 404),
        ({"model": "router-nobody", **text}, 400),
        ({"model": "router-mf-7", **text}, 400),
        ({"model": "router-mf-x", **text}, 400),
        ({"model": "router-mf", "messages": 3}, 400),
    ]
    body, status = rng.choice(bodies)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Question("bad requests", _CHAT, data, (status,))


def _leaving(rng: random.Random) -> Question:
    text = f"{rng.choice((EASY, HARD))} @words={rng.randrange(1, 60)} @pause=0.002"
    body = {"model": _model(rng), "prompt": text, "stream": rng.random() < 0.8}
    leaves = rng.choice(("within the request", "before the answer", "within the answer", "within the answer"))
    return Question("clients that hang up", UNSEEN_PATH, json.dumps(body).encode(), leaves=leaves)


_SHARES: Final = {
    _plain: 45, _stream: 22, _slow_stream: 6, _embedding: 3, _failing: 4, _silent: 3, _cut: 3, _big: 0.5,
    _too_big: 0.5, _bad: 7, _leaving: 6,
}  # fmt: skip
_MAKERS: Final = list(_SHARES)
_WEIGHTS: Final = list(_SHARES.values())


def _question(
    kind: str, path: str, body: dict[str, Any], rng: random.Random, *, model: str | None = None, **more: Any
) -> Question:
    data = json.dumps({"model": model or _model(rng), **body}).encode()
    return Question(kind, path, data, **more)


def _model(rng: random.Random) -> str:
    return rng.choice(("router-mf", "router-mf", f"router-mf-{rng.random():.3f}", "auto", "big", "small"))


def _messages(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def _expected(path: str, *, is_stream: bool) -> bytes:
    """Return what the models' server answers where a request asks for nothing special."""
    _, body = answer_of(path.removeprefix("/v1"), Plan(), "model", is_stream)
    return body if isinstance(body, bytes) else b"".join(body)
