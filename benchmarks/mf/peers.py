"""Who else scores an embedding by mf, as plain callables that do one and the same job."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.peers import import_routellm
from benchmarks.mf.workload import EMBEDDING_DIM, LATENT_DIM, MODELS, MatrixFactorization


def numpy_win_rate(mf: MatrixFactorization) -> Callable[[NDArray[np.float32]], float]:
    """Return the three operations that a Python user would write for one embedding."""
    vector, exp = mf.vector.astype(np.float32), math.exp
    return lambda embedding: 1.0 / (1.0 + exp(-float(vector.dot(embedding))))


def numpy_win_rates(mf: MatrixFactorization) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the same for a batch."""
    vector = mf.vector.astype(np.float32)
    return lambda embeddings: 1.0 / (1.0 + np.exp(-(embeddings @ vector)))


def routellm_win_rate(mf: MatrixFactorization, embeddings: Sequence[Any]) -> Callable[[int], float]:
    """Return RouteLLM's own MFModel.pred_win_rate of embedding i, its embedding service replaced by a look-up.

    Args:
        mf: Weights that both share.
        embeddings: What the service answers: lists of Python floats in reality; arrays spare RouteLLM a conversion.

    Raises:
        PeerMissingError: routellm or torch is not installed.
    """
    module = import_routellm("routers.matrix_factorization.model")
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    model = module.MFModel(
        dim=LATENT_DIM, num_models=MODELS, text_dim=EMBEDDING_DIM, num_classes=1, use_proj=True
    ).eval()
    with torch.no_grad():
        model.P.weight.copy_(torch.from_numpy(mf.P))
        model.text_proj[0].weight.copy_(torch.from_numpy(mf.W))
        model.classifier[0].weight.copy_(torch.from_numpy(mf.w[None]))
    strong, weak = (module.MODEL_IDS[name] for name in mf.router.scoring_pair)
    answers = [SimpleNamespace(data=[SimpleNamespace(embedding=embedding)]) for embedding in embeddings]
    client = SimpleNamespace(embeddings=SimpleNamespace(create=lambda **asked: answers[asked["input"][0]]))

    def win_rate(index: int) -> Any:
        module.OPENAI_CLIENT = client
        return model.pred_win_rate(strong, weak, index)

    return win_rate
