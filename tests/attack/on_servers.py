"""Embedding servers and judges that answer slowly, endlessly, hugely or wrongly, or that point elsewhere."""

from __future__ import annotations

import asyncio
import functools
import gzip
import itertools
import json
import random
import resource
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import routellm_fast as rf
from routellm_fast.augmentation.endpoint import CallFailedError
from routellm_fast.augmentation.endpoint_settings import EndpointSettings
from tests.attack.harness import Attack, Campaign
from tests.support.asked_judge import asked_judge
from tests.support.raw_server import Peer, RawRequest, RawServer, answer

_TIMEOUT_S: Final = 0.25
_DIM: Final = 4
_KEY: Final = "the-key-of-this-server"
# A call may ask in four ways (encoding, dimensions, fewer texts), each twice, with a pause of half a second between.
_BOUND_S: Final = 4 * (2 * _TIMEOUT_S + 0.5)
# Eight callers on a busy machine.
_SLACK_S: Final = 20.0
_MOST_GROWTH_KIB: Final = 256 << 10
_CALLERS: Final = 8
_WAYS: Final = ("embed", "aembed", "judge")

Act = Callable[[Peer, RawRequest, random.Random, str], None]


def _right(request: RawRequest) -> bytes:
    if "messages" in request.json:
        choice = {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        return json.dumps({"choices": [choice]}).encode()
    rows = [{"index": k, "embedding": _vector(text)} for k, text in enumerate(request.json["input"])]
    return json.dumps({"data": rows}).encode()


def _vector(text: str) -> list[float]:
    return [float(len(text)), 0.5, -0.25, 1.0]


def _honest(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    body = _right(request)
    how = rng.choice(("plain", "gzip", "chunked"))
    if how == "gzip":
        peer.send(answer(body=gzip.compress(body), headers=(("Content-Encoding", "gzip"),)))
    elif how == "chunked":
        cut = rng.randrange(len(body))
        parts = [part for part in (body[:cut], body[cut:]) if part]
        chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
        peer.send(answer(body=chunks + b"0\r\n\r\n", headers=(("Transfer-Encoding", "chunked"),)))
    else:
        peer.send(answer(body=body))


def _drip(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    whole = answer(body=_right(request))
    start = rng.randrange(len(whole))
    peer.send(whole[:start])
    peer.drip((whole[k : k + 1] for k in range(start, len(whole))), rng.choice((0.02, 0.1)))


def _endless(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    beginnings = {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n": b"4000\r\n" + b" " * 0x4000 + b"\r\n",
        b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n": b"4000\r\n" + b"." * 0x4000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n": b" " * 0x4000,
        b"HTTP/1.1 200 OK\r\n": b"X-A: " + b"b" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: ": b"b" * 1000,
        b"": b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.1 102 Wait\r\n": b"X-A: b\r\n",
    }
    beginning, piece = rng.choice(sorted(beginnings.items()))
    peer.send(beginning)
    peer.drip(itertools.repeat(piece), rng.choice((0.0, 0.0, 0.005)))


def _bomb(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    encoding = rng.choice(("gzip", "deflate"))
    is_twice = rng.random() < 0.3
    headers = (("Content-Encoding", f"{encoding}, gzip" if is_twice else encoding),)
    peer.send(answer(rng.choice((200, 200, 400)), _gigabyte(encoding, is_twice=is_twice), headers))


@functools.cache
def _gigabyte(encoding: str, *, is_twice: bool) -> bytes:
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    first = packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    megabytes = packer.compress(b" " * (1 << 22)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = first + megabytes * 256
    return gzip.compress(body) if is_twice else body


def _elsewhere(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    status = rng.choice((300, 301, 302, 303, 307, 308))
    place = rng.choice((f"{other}/embeddings", other.replace("http:", ""), "/v1/embeddings", "http://[", "", "\xff"))
    peer.send(answer(status, _right(request), (("Location", place), ("X-Should-Retry", "true"))))


def _cut(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    body = _right(request)
    how = rng.choice(("long", "short", "negative", "reset", "gone", "packed"))
    if how == "reset":
        peer.reset()
    elif how == "packed":
        packed = gzip.compress(body)
        peer.send(answer(body=packed[: rng.randrange(len(packed))], headers=(("Content-Encoding", "gzip"),)))
    elif how != "gone":
        length = {"long": len(body) + 9, "short": len(body) - 9, "negative": -1}[how]
        peer.send(answer(body=body, headers=(("Content-Length", str(length)),)))
    raise OSError(how)  # ends the connection


def _wrong(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    count = len(request.json.get("input", [1]))
    numbers: list[Any] = [
        [float("nan")] * _DIM,
        [float("inf")] * _DIM,
        [1e999] * _DIM,
        [10**400] * _DIM,
        [None] * _DIM,
        ["1"] * _DIM,
        [1.0] * rng.choice((0, 1, _DIM + 1, 5000)),
        "AAAA",
        {"a": 1},
    ]
    bodies = [
        json.dumps({"data": [{"index": k, "embedding": rng.choice(numbers)} for k in range(count)]}).encode(),
        json.dumps({"data": []}).encode(),
        json.dumps({"choices": [{"message": {"content": rng.choice([None, 1, [], {}, [{}]])}}]}).encode(),
        b"[" * rng.choice((10, 900, 60_000)),
        b'{"a":' * rng.choice((900, 10_000)) + b"1" + b"}" * 10_000,
        b'{"data": [' + b"[]," * 20_000 + b"[]]}",
        bytes(rng.randrange(256) for _ in range(rng.randrange(200))),
        b"",
    ]
    # Errors that repeat what they were sent, key and all.
    echo = request.head.decode("latin-1")
    said = rng.choice((echo, json.dumps(echo), echo.replace("-", "%2D"), echo.replace("t", "\\u0074")))
    status = rng.choice((200, 200, 400, 401, 413, 429, 500))
    body = rng.choice(bodies) if status == 200 else json.dumps({"error": {"message": said}}).encode()
    headers = (("Retry-After", rng.choice(("0.01", "-1", "nan", "1e400", "4000", "Fri, 01 Jan 2100 00:00:00 GMT"))),)
    peer.send(answer(status, body, headers if status >= 400 else ()))


def _silent(peer: Peer, request: RawRequest, rng: random.Random, other: str) -> None:
    peer.is_gone(5.0)


_ACTS: Final[tuple[Act, ...]] = (_honest, _drip, _endless, _bomb, _elsewhere, _cut, _wrong, _silent)


def _attack(campaign: Campaign) -> None:
    seeds = iter([campaign.rng.getrandbits(48) for _ in range(campaign.count)])
    lock = threading.Lock()
    faults: list[str] = []
    with RawServer() as other:
        # The first calls load what later ones share.
        _call(random.Random(0), other.url, "embed", _honest)
        other.requests.clear()
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def work() -> None:
            while not faults:
                with lock:
                    seed = next(seeds, None)
                if seed is None:
                    return
                rng = random.Random(seed)
                way, act = rng.choice(_WAYS), rng.choice(_ACTS)
                began_s = time.monotonic()
                outcome = _call(rng, other.url, way, act)
                took_s = time.monotonic() - began_s
                with lock:
                    campaign.tally[outcome if outcome in ("right answers", "named errors") else "faults"] += 1
                    if outcome not in ("right answers", "named errors"):
                        faults.append(f"{way} with a server that is {act.__name__}: {outcome}")
                    if took_s > _BOUND_S + _SLACK_S:
                        faults.append(f"{way} with a server that is {act.__name__} took {took_s:.1f} s")

        threads = [threading.Thread(target=work) for _ in range(_CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
        assert not faults, faults[0]
        assert not other.requests, f"a server that nobody named was asked: {other.requests[0].head!r}"
        assert grown_kib < _MOST_GROWTH_KIB, f"the process grew by {grown_kib >> 10} MiB"


def _call(rng: random.Random, other: str, way: str, act: Act) -> str:
    """Call a server of its own; return what came of it: "right answers", "named errors", or what is wrong."""
    turns: Iterator[random.Random] = (random.Random(f"{rng.random()}") for _ in itertools.count())
    texts = ["a" * rng.randrange(1, 9) for _ in range(rng.choice((1, 1, 3)))]
    timeout_s = 30.0 if act is _honest else _TIMEOUT_S  # a busy machine is no fault of an honest server's
    with RawServer() as server:
        server.act = lambda peer, request: act(peer, request, next(turns), other)
        try:
            if way == "judge":
                found = asyncio.run(_judged(server.url, timeout_s))
                return "right answers" if found == "yes" or act is not _honest else f"the answer is {found!r}"
            embedder = rf.OpenAIEmbedder(
                "m", base_url=server.url, api_key=_KEY, dim=_DIM, timeout_s=timeout_s, max_retries=1
            )
            vectors = _embedded(embedder, texts) if way == "embed" else asyncio.run(_aembedded(embedder, texts))
        except (rf.EmbeddingError, rf.EndpointError, CallFailedError) as error:
            if _KEY in str(error) or len(str(error)) > 3000:
                return f"the error shows too much: {error}"
            return "named errors" if act is not _honest else f"an honest server is refused: {error}"
        is_right = np.array_equal(vectors, np.array([_vector(text) for text in texts], np.float32))
        is_finite = vectors.shape == (len(texts), _DIM) and bool(np.isfinite(vectors).all())
        # What a server makes up in the right form is taken: nobody else knows its vectors.
        return "right answers" if is_right or (is_finite and act is _wrong) else f"the vectors are {vectors}"


def _embedded(embedder: rf.OpenAIEmbedder, texts: list[str]) -> Any:
    with embedder:
        return embedder.embed(texts)


async def _aembedded(embedder: rf.OpenAIEmbedder, texts: list[str]) -> Any:
    async with embedder:
        return await embedder.aembed(texts)


async def _judged(url: str, timeout_s: float) -> str:
    settings = EndpointSettings("m", base_url=url, timeout_s=timeout_s, max_retries=0, max_tokens=64)
    return await asked_judge(settings, api_key=_KEY)


ATTACKS = [
    Attack(
        name="hostile embedding servers and judges",
        tried="an embedder, blocking or not, or a judge asks a server that drips, floods, cuts, packs a gigabyte, "
        "points elsewhere, answers nonsense or is silent, at a time-out of a quarter of a second.",
        held="the call ends within its bound, with the right answer or a named error that shows no key; no other "
        "server is asked, and the process stays small.",
        unit="calls",
        whole=2500,
        brief=24,
        run=_attack,
    )
]
