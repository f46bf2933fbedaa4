"""From texts to vectors."""

from __future__ import annotations

from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.cached import CachedEmbedder
from routellm_fast.embedders.function import FunctionEmbedder
from routellm_fast.embedders.openai import OpenAIEmbedder
from routellm_fast.embedders.static import StaticEmbedder

__all__ = ["CachedEmbedder", "Embedder", "FunctionEmbedder", "OpenAIEmbedder", "StaticEmbedder"]
