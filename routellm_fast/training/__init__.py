"""Training: from battles to a router; each kind has a module.

A trainer takes battles, an embedder and its config, and returns what makes the router, with metrics:
`train(battles, embedder, config, *, on_progress)`. torch is imported when mf's training starts, not before.

What trainers share: `loading` (sources to battles, with counts), `held_out` (split by prompt group, losses, early
stopping), `checkpoint`, `progress`, `deterministic` (torch) and `model_card`. `command` puts them together.
"""

from __future__ import annotations

from routellm_fast.data.battles import Battles
from routellm_fast.training.command import train_mf, train_sw_ranking
from routellm_fast.training.ensemble import train_ensemble
from routellm_fast.training.matrix_factorization import MatrixFactorizationConfig, TrainedMatrixFactorization
from routellm_fast.training.progress import Progress
from routellm_fast.training.similarity_weighted import SimilarityWeightedConfig, Stage, TrainedSimilarityWeighted

__all__ = [
    "Battles",
    "MatrixFactorizationConfig",
    "Progress",
    "SimilarityWeightedConfig",
    "Stage",
    "TrainedMatrixFactorization",
    "TrainedSimilarityWeighted",
    "train_ensemble",
    "train_mf",
    "train_sw_ranking",
]
