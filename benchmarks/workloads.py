"""What is routed and scored: prompts, texts of a given length, embeddings, weights of RouteLLM's shape."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

import routellm_fast as rf
from routellm_fast.routers import MatrixFactorizationRouter

REPOSITORY: Final = Path(__file__).resolve().parent.parent
EXAMPLES: Final = REPOSITORY / "examples" / "prompts.txt"
# RouteLLM's published mf checkpoints: 64 models in 128 dimensions, text-embedding-3-small's 1,536.
MODELS, LATENT_DIM, EMBEDDING_DIM = 64, 128, 1536


class DataMissingError(Exception):
    """The real prompts are not on this machine."""


def example_prompts() -> list[str]:
    """Return the prompts that come with the repository."""
    return EXAMPLES.read_text(encoding="utf-8").splitlines()


def natural_prompts() -> list[str]:
    """Return 7,504 real prompts, which are no part of the repository. Raises DataMissingError."""
    folder = Path(os.environ.get("ROUTELLM_FAST_DATA", REPOSITORY.parent / "shared" / "data"))
    path = folder / "prompts" / "natural_prompts.csv.gz"
    if not path.is_file():
        raise DataMissingError(f"needs the real prompts at {path} (ROUTELLM_FAST_DATA names another data folder)")
    csv.field_size_limit(sys.maxsize)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [row["prompt"] for row in csv.DictReader(file)]


def texts_of_length(length: int, count: int, prompts: Sequence[str]) -> list[str]:
    """Return `count` different ASCII texts of exactly `length` characters, made of prompts joined by spaces."""
    ascii_prompts = [prompt for prompt in prompts if prompt.isascii() and prompt]
    texts = []
    for index in range(count):
        first = index * len(ascii_prompts) // count
        parts, size = [], 0
        for prompt in itertools.islice(itertools.cycle(ascii_prompts), first, None):
            parts.append(prompt)
            size += len(prompt) + 1
            if size > length:
                break
        texts.append(" ".join(parts)[:length])
    return texts


@dataclass(frozen=True, slots=True, eq=False)
class MatrixFactorization:
    """An mf router on embeddings, in RouteLLM's own shape, and the float64 truth about it.

    Attributes:
        router: Ours.
        P, W, w: (models, latent), (latent, dim), (latent,) float32: RouteLLM's letters.
        rows: (models, dim) float64; a row times an embedding is a model's logit.
        vector: (dim,) float64; times an embedding it is the pair's logit.
    """

    router: MatrixFactorizationRouter
    P: NDArray[np.float32]
    W: NDArray[np.float32]
    w: NDArray[np.float32]
    rows: NDArray[np.float64]
    vector: NDArray[np.float64]


def matrix_factorization(folder: Path) -> MatrixFactorization:
    """Write a checkpoint as RouteLLM's save_pretrained does, with seeded random weights, and read it."""
    rng = np.random.default_rng(1536)
    P = rng.standard_normal((MODELS, LATENT_DIM), dtype=np.float32)
    W = rng.standard_normal((LATENT_DIM, EMBEDDING_DIM), dtype=np.float32)
    w = rng.standard_normal(LATENT_DIM, dtype=np.float32)
    tensors = {"P.weight": P, "text_proj.0.weight": W, "classifier.0.weight": w[None]}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    router = MatrixFactorizationRouter.from_routellm(folder, embedder=None)
    wide = P.astype(np.float64)
    rows = (wide / np.linalg.norm(wide, axis=1, keepdims=True) * w) @ W.astype(np.float64)
    strong, weak = (router.model_names.index(name) for name in router.model_pair)
    return MatrixFactorization(router, P, W, w, rows, rows[strong] - rows[weak])


def unit_embeddings(count: int) -> NDArray[np.float32]:
    """Return (count, 1536) float32 unit vectors, as text-embedding-3-small makes them."""
    rows = np.random.default_rng(count).standard_normal((count, EMBEDDING_DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def decision_threshold(router: rf.Router) -> float:
    """Return the threshold that sends half of the calibration prompts to the strong model; 0.5 without calibration."""
    return 0.5 if router.calibration is None else router.threshold_for(strong_share=0.5)
