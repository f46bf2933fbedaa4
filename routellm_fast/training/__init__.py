"""Training: from battles to a router; each kind has a module.

A trainer takes battles, an embedder and its config, and returns what makes the router, with metrics:
`train(battles, embedder, config, *, on_progress)`. torch is imported when a training that needs it starts, not before.

What trainers share: `configs` (the settings), `loading` (sources to battles, with counts), `held_out` (split by prompt
group, losses), `pair_data` (battles of one pair, by prompt), `embedding`, `epoch_loop` (epochs, early stopping) with
`checkpoint` and `deterministic` (torch), `progress`, `verdict` (is the router better
than a constant and than prompt length), `model_card` and `command` (from files to a directory).
"""

from __future__ import annotations

from routellm_fast.data.battles import Battles
from routellm_fast.training.configs import GapRegressionConfig, MatrixFactorizationConfig, SimilarityWeightedConfig
from routellm_fast.training.ensemble import train_ensemble
from routellm_fast.training.matrix_factorization import TrainedMatrixFactorization
from routellm_fast.training.mf_command import train_mf
from routellm_fast.training.progress import Progress
from routellm_fast.training.similarity_weighted import TrainedSimilarityWeighted
from routellm_fast.training.sw_ranking_command import train_sw_ranking

__all__ = [
    "Battles",
    "GapRegressionConfig",
    "MatrixFactorizationConfig",
    "Progress",
    "SimilarityWeightedConfig",
    "TrainedMatrixFactorization",
    "TrainedSimilarityWeighted",
    "train_ensemble",
    "train_mf",
    "train_sw_ranking",
]
