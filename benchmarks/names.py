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

# sw_ranking, by precision and, where it is not the default, the number of axes kept.
SW_FLOAT32 = "routellm_fast float32"
SW_INT8 = "routellm_fast int8"
SW_INT8_NARROW = "routellm_fast int8, 128 axes"
SW_MOMENTS = "routellm_fast moments"
SW_NAMES = {"float32": SW_FLOAT32, "int8": SW_INT8, "int8, 128 axes": SW_INT8_NARROW, "moments": SW_MOMENTS}
SW_COMPRESSED = (SW_INT8, SW_INT8_NARROW, SW_MOMENTS)
FAISS = "faiss (scan only)"
USEARCH = "usearch float32 (scan only)"
USEARCH_INT8 = "usearch int8 (scan only)"
SW_PEERS = (NUMPY, FAISS, USEARCH, USEARCH_INT8)

# In Triton Inference Server.
TRITON_OURS = "our C++ backend"
TRITON_TRIVIAL = "trivial C++ backend"
TRITON_PYTHON = "Python backend"
