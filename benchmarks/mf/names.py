"""What the ways to score an embedding by mf are called, in measurements as in reports."""

from __future__ import annotations

from typing import Final

MF_ONE: Final = "routellm_fast.win_rate_from_embedding"
MF_MANY: Final = "routellm_fast.win_rates_from_embeddings"
MF_CACHED: Final = "routellm_fast.win_rate through CachedEmbedder"
MF_LOGITS: Final = "routellm_fast.model_logits"
ROUTELLM_ARRAY: Final = "RouteLLM, spared the list"
