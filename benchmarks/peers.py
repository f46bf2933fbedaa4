"""Everybody who takes part, ours included, as plain callables that do one and the same job.

A peer gets the benefit of the doubt: it computes no surface features, reads a float32 table where ours is int8, and is
called in the cheapest way that its documentation shows.
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from names import MODEL2VEC, ROUTE, WIN_RATE
from numpy.typing import NDArray
from reference import TextReference
from workloads import EMBEDDING_DIM, LATENT_DIM, MODELS, MatrixFactorization

import routellm_fast as rf


class PeerMissingError(Exception):
    """A peer's library is not installed."""


@dataclass(frozen=True, slots=True)
class TextContender:
    """From text to decision.

    Attributes:
        one: One prompt a call.
        many: A list of prompts a call.
    """

    one: Callable[[str], Any]
    many: Callable[[list[str]], Any]


def text_contender(name: str, router: rf.Router, threshold: float, reference: TextReference | None) -> TextContender:
    """Build one of TEXT_CONTENDERS. Peers read table and tokenizer of the reference. Raises PeerMissingError."""
    if name == ROUTE:
        return TextContender(
            lambda prompt: router.route(prompt, threshold), lambda prompts: router.route_batch(prompts, threshold)
        )
    if name == WIN_RATE:
        return TextContender(router.win_rate, router.win_rates)
    if reference is None:
        raise PeerMissingError("needs tokenizers, for the reference path that it shares")
    return _model2vec(reference, threshold) if name == MODEL2VEC else _tokenizers(reference)


def model2vec_model(reference: TextReference) -> Any:
    """Return model2vec's StaticModel over the same tokens and vectors, in float32. Raises PeerMissingError."""
    try:
        from model2vec import StaticModel
        from tokenizers import Tokenizer
    except ImportError as error:
        raise PeerMissingError(f"needs model2vec ({error.name} is not installed)") from error
    return StaticModel(
        reference.table.astype(np.float32),
        Tokenizer.from_str(reference.tokenizer_json),
        normalize=reference.settings["normalize"],
        max_length=reference.settings["max_tokens"],
    )


def _model2vec(reference: TextReference, threshold: float) -> TextContender:
    model = model2vec_model(reference)
    vector = reference.vector[: reference.token_dim].astype(np.float32)
    exp = math.exp

    def one(prompt: str) -> bool:
        return 1.0 / (1.0 + exp(-float(model.encode(prompt).dot(vector)))) >= threshold

    def many(prompts: list[str]) -> NDArray[np.bool_]:
        return 1.0 / (1.0 + np.exp(-(model.encode(prompts, use_multiprocessing=False) @ vector))) >= threshold

    return TextContender(one, many)


def _tokenizers(reference: TextReference) -> TextContender:
    """Encode only: less than anyone who builds on this library can spend on a decision."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(reference.tokenizer_json)
    tokenizer.no_padding()
    tokenizer.enable_truncation(reference.settings["max_tokens"])
    # It reads a text to its end even when it keeps 512 tokens, so it gets the cut that model2vec and we make.
    limit = reference.settings["max_code_points"]
    encode = tokenizer.encode_batch_fast

    def one(prompt: str) -> list[int]:
        return encode([prompt[:limit]], add_special_tokens=False)[0].ids

    def many(prompts: list[str]) -> list[list[int]]:
        encodings = encode([prompt[:limit] for prompt in prompts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    return TextContender(one, many)


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

    def win_rate(index: int) -> float:
        module.OPENAI_CLIENT = client
        return model.pred_win_rate(strong, weak, index)

    return win_rate


def import_routellm(name: str) -> Any:
    """Import one of RouteLLM's modules. Raises PeerMissingError."""
    # Its import builds an OpenAI client, which wants a key, and LiteLLM, which would fetch a price list.
    needed = {"OPENAI_API_KEY": "unused", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    before = {key: os.environ.get(key) for key in needed}
    os.environ.update(needed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"routellm.{name}")
    except ImportError as error:
        raise PeerMissingError(f"needs routellm 0.2.0 and what it requires ({error.name} is not installed)") from error
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value
