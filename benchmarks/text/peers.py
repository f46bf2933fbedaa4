"""Everybody who takes part from text to decision, ours included, as plain callables that do one and the same job.

A peer gets the benefit of the doubt: it computes no surface features, reads a float32 table where ours is int8, and is
called in the cheapest way that its documentation shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import routellm_fast as rf
from benchmarks.harness.peers import PeerMissingError, needing
from benchmarks.text.names import MODEL2VEC, ROUTE, WIN_RATE
from benchmarks.text.reference import TextReference


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
    with needing("model2vec"):
        from model2vec import StaticModel
        from tokenizers import Tokenizer
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

    def many(prompts: list[str]) -> Any:
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
