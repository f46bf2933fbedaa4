"""How many tokens prompts have, as the router's own tokenizer counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import InvalidArgumentError


def token_counts(embedder: Embedder | None, prompts: Sequence[str]) -> NDArray[np.int64]:
    """Return (n,) tokens of each prompt, by the tokenizer of a static embedder; whole prompts, whatever it embeds.

    Raises:
        InvalidArgumentError: The embedder has no tokenizer at hand.
    """
    if not isinstance(embedder, StaticEmbedder):
        raise InvalidArgumentError(
            "this router has no tokenizer to count the tokens of prompts with: give the mean number of input tokens"
        )
    from routellm_fast.tokenization import LibraryTokenizer, native_tokenizer

    _, _, files = embedder.stored()
    content = files["tokenizer.json"]
    native = native_tokenizer(content).tokenizer
    found = map(native.encode, prompts) if native is not None else LibraryTokenizer(content).encode(prompts)
    return np.array([len(ids) for ids in found], dtype=np.int64)
