"""Loads the embedder that a command-line option names."""

from __future__ import annotations

from typing import Final

from routellm_fast.embedders import Embedder, OnnxEmbedder, OpenAIEmbedder, StaticEmbedder

_OPENAI_PREFIX: Final = "openai:"
_ONNX_PREFIX: Final = "onnx:"


def named_embedder(name: str) -> Embedder | None:
    """Return the embedder that an option names: `openai:MODEL`, `onnx:DIR`, a directory, or `none` for None."""
    if name == "none":
        return None
    if name.startswith(_OPENAI_PREFIX):
        return OpenAIEmbedder(model=name.removeprefix(_OPENAI_PREFIX))
    if name.startswith(_ONNX_PREFIX):
        return OnnxEmbedder.load(name.removeprefix(_ONNX_PREFIX))
    return StaticEmbedder.load(name)
