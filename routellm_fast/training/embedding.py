"""Embeddings of the prompts that a trainer learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.base import Embedder
from routellm_fast.training.progress import OnProgress, Progress, ignore_progress

_BATCH: Final = 1024


def embedded(prompts: Sequence[str], embedder: Embedder, on_progress: OnProgress | None = None) -> FloatArray:
    """Return (n, dim) float32 embeddings of n prompts, in batches; `on_progress` is called after each."""
    report = on_progress or ignore_progress
    vectors = np.empty((len(prompts), embedder.dim), dtype=np.float32)
    for start in range(0, len(prompts), _BATCH):
        end = min(start + _BATCH, len(prompts))
        vectors[start:end] = embedder.embed(prompts[start:end])
        report(Progress("embedding prompts", end, len(prompts)))
    return vectors
