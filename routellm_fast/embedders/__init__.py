"""Embedders: they turn texts into vectors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder

if TYPE_CHECKING:
    from routellm_fast.embedders.cached import CachedEmbedder
    from routellm_fast.embedders.function import FunctionEmbedder
    from routellm_fast.embedders.onnx import OnnxEmbedder
    from routellm_fast.embedders.openai import OpenAIEmbedder

# The router that ships needs none of these. Importing them would double the time to import this package.
_ON_FIRST_USE = {
    "CachedEmbedder": "cached",
    "FunctionEmbedder": "function",
    "OnnxEmbedder": "onnx",
    "OpenAIEmbedder": "openai",
}

__all__ = ["CachedEmbedder", "Embedder", "FunctionEmbedder", "OnnxEmbedder", "OpenAIEmbedder", "StaticEmbedder"]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    globals()[name] = value
    return value
