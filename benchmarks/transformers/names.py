"""What the contenders that read prompts themselves are called, in measurements as in reports."""

from __future__ import annotations

from typing import Final

# A sequence classifier.
FLOAT32: Final = "routellm_fast float32"
INT8: Final = "routellm_fast int8"
INT8_STATIC: Final = "routellm_fast int8-static"
TORCH: Final = "torch eager"
ROUTELLM_BERT: Final = "RouteLLM's bert"
PLAIN_RUNTIME: Final = "tokenizers + ONNX Runtime float32"
PRODUCTS: Final = "the layers' matrix products alone, numpy float32"

# A causal language model.
PREFILL: Final = "routellm_fast"
NO_PREFIX: Final = "routellm_fast, without the prefix cache"
UNCACHED: Final = "generate, uncached, as RouteLLM's"
CACHED: Final = "generate, with a cache"
