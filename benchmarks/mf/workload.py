"""Weights of RouteLLM's shape and embeddings to score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from routellm_fast.routers import MatrixFactorizationRouter

# RouteLLM's published mf checkpoints: 64 models in 128 dimensions, text-embedding-3-small's 1,536.
MODELS: Final = 64
LATENT_DIM: Final = 128
EMBEDDING_DIM: Final = 1536


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
