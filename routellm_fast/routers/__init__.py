"""The routers, and how to load one."""

from __future__ import annotations

from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import load_router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.routers.random import RandomRouter
from routellm_fast.routers.similarity_weighted import SimilarityWeightedRouter

__all__ = ["MatrixFactorizationRouter", "RandomRouter", "Router", "SimilarityWeightedRouter", "load_router"]
