"""How much is measured: all of it, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    prompts: int | None
    rounds: int
    lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    embeddings: int
    routellm_rows: int
    interpreters: int


FULL: Final = Effort(
    prompts=None,
    rounds=11,
    lengths=(16, 64, 256, 1_000, 4_000, 16_000, 1_000_000, 10_000_000),
    batch_sizes=(1, 4, 16, 64, 256, 1024),
    embeddings=10_000,
    routellm_rows=200,
    interpreters=11,
)
QUICK: Final = Effort(
    prompts=128,
    rounds=2,
    lengths=(16, 1_000, 1_000_000),
    batch_sizes=(1, 64),
    embeddings=1_000,
    routellm_rows=20,
    interpreters=2,
)
