"""The routers, and how to load one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import load_router, router_class
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter

if TYPE_CHECKING:
    from routellm_fast.routers.bert import BertRouter
    from routellm_fast.routers.causal.router import CausalLLMRouter
    from routellm_fast.routers.random import RandomRouter
    from routellm_fast.routers.similarity.router import SimilarityWeightedRouter

# The router that ships needs none of these, and importing them would lengthen everybody's start.
_ON_FIRST_USE = {
    "BertRouter": "bert",
    "CausalLLMRouter": "causal_llm",
    "RandomRouter": "random",
    "SimilarityWeightedRouter": "sw_ranking",
}

__all__ = [
    "BertRouter",
    "CausalLLMRouter",
    "MatrixFactorizationRouter",
    "RandomRouter",
    "Router",
    "SimilarityWeightedRouter",
    "load_router",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = router_class(_ON_FIRST_USE[name])
    globals()[name] = value
    return value
