"""Routing among more than two models: one mf router ranks a pool, and the cheapest model that is good enough answers.

>>> import routellm_fast as rf
>>> from routellm_fast.pool import ModelPool, PoolModel
>>> prices = {"gpt-4-1106-preview": 9.2, "claude-instant-1": 0.7, "mistral-7b-instruct": 0.08}
>>> models = [PoolModel(name, cost_usd_per_1k) for name, cost_usd_per_1k in prices.items()]
>>> pool = ModelPool(rf.load_router(), models)
>>> pool.choose("Prove that there are infinitely many primes.", tau=0.55).model  # doctest: +SKIP
"""

from __future__ import annotations

from routellm_fast.pool.models import PoolModel, pool_models_of, read_pool_models
from routellm_fast.pool.ranking import ModelPool, PoolDecision, RankedModel

__all__ = ["ModelPool", "PoolDecision", "PoolModel", "RankedModel", "pool_models_of", "read_pool_models"]
