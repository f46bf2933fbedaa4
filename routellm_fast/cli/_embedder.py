"""Embedders by name."""

from __future__ import annotations

from typing import Final

from routellm_fast.embedders import Embedder, OpenAIEmbedder, StaticEmbedder

_OPENAI_PREFIX: Final = "openai:"


def named_embedder(name: str) -> Embedder | None:
    """Return the embedder that an option names: `openai:MODEL`, an embedder or model2vec directory, or `none`."""
    if name == "none":
        return None
    if name.startswith(_OPENAI_PREFIX):
        return OpenAIEmbedder(model=name.removeprefix(_OPENAI_PREFIX))
    return StaticEmbedder.load(name)
