"""What contenders are called, in measurements as in reports."""

from __future__ import annotations

ROUTE = "routellm_fast.route"
WIN_RATE = "routellm_fast.win_rate"
MODEL2VEC = "model2vec + numpy"
TOKENIZERS = "tokenizers alone"
TEXT_CONTENDERS = (ROUTE, WIN_RATE, MODEL2VEC, TOKENIZERS)

MF_ONE = "routellm_fast.win_rate_from_embedding"
MF_MANY = "routellm_fast.win_rates_from_embeddings"
MF_CACHED = "routellm_fast.win_rate through CachedEmbedder"
MF_LOGITS = "routellm_fast.model_logits"
NUMPY = "numpy"
ROUTELLM = "RouteLLM"
ROUTELLM_ARRAY = "RouteLLM, spared the list"
