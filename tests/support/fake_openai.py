"""A real HTTP server on the loopback that speaks OpenAI's embeddings API, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import routellm_fast as rf
from tests.support import fake_server
from tests.support.fake_server import FakeServer, Request


def vector_for(text: str, dim: int) -> np.ndarray:
    """The server's embedding of a text: (dim,) float32, as good as random."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def vectors_for(texts: Sequence[str], dim: int) -> np.ndarray:
    return np.stack([vector_for(text, dim) for text in texts])


def embed(embedder: rf.OpenAIEmbedder, texts: list[str], way: str) -> np.ndarray:
    """Through one of the two faces, "sync" or "async", leaving no connection open."""
    if way == "sync":
        with embedder:
            return embedder.embed(texts)

    async def run() -> np.ndarray:
        async with embedder:
            return await embedder.aembed(texts)

    return asyncio.run(run())


@dataclass
class Reply(fake_server.Reply):
    """What the server does with one request: by default what it is asked for."""

    reverse: bool = False
    as_lists: bool = False
    index: Callable[[int], Any] | None = int  # what a row's index is; None for none


class FakeOpenAI(FakeServer):
    """A FakeServer of embeddings of `dim` dimensions."""

    reply_type = Reply

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.dim = dim

    @property
    def texts(self) -> list[str]:
        return [text for request in self.requests for text in request.body["input"]]

    def answer(self, request: Request, reply: Reply) -> dict[str, Any]:
        body = request.body
        dim = body.get("dimensions", self.dim)
        in_base64 = body.get("encoding_format") == "base64" and not reply.as_lists
        data = []
        for index, text in enumerate(body["input"]):
            vector = vector_for(text, dim)
            embedding = base64.b64encode(vector.astype("<f4").tobytes()).decode() if in_base64 else vector.tolist()
            row = {"object": "embedding", "embedding": embedding}
            data.append(row if reply.index is None else {**row, "index": reply.index(index)})
        if reply.reverse:
            data.reverse()
        return {
            "object": "list",
            "data": data,
            "model": body["model"],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
