"""An embedder that counts, waits and fails on demand."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence

import numpy as np

DIM = 12


def vectors_of(texts: Sequence[str], dim: int = DIM) -> np.ndarray:
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    seeds = [int.from_bytes(digest[:8], "little") for digest in digests]
    rows = [np.random.default_rng(seed).normal(size=dim) for seed in seeds]
    return np.array(rows, dtype=np.float32).reshape(len(texts), dim)


class Model:
    """An embedder that counts, waits and fails on demand."""

    def __init__(self, dim: int = DIM, fingerprint: str = "sha256:model", delay_s: float = 0.0) -> None:
        self.name = "model"
        self.dim = dim
        self.fingerprint = fingerprint
        self.delay_s = delay_s
        self.fault: Exception | None = None
        self.seen: list[str] = []
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls += 1
        self.seen += texts
        time.sleep(self.delay_s)
        if self.fault is not None:
            raise self.fault
        return vectors_of(texts, self.dim)


class AsyncModel(Model):
    async def aembed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls += 1
        self.seen += texts
        await asyncio.sleep(self.delay_s)
        if self.fault is not None:
            raise self.fault
        return vectors_of(texts, self.dim)
