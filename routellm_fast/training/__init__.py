"""Training. `data` reads battles, `split` holds prompts out, and each kind of router has a module with `train`.

A trainer takes battles, an embedder and its config, and returns what the router's constructor takes, with metrics:
`train(battles, embedder, config, *, on_progress)`. torch is imported when training starts, not before.
"""

from __future__ import annotations

from routellm_fast.training.command import train_mf
from routellm_fast.training.data import Battles
from routellm_fast.training.matrix_factorization import (
    MatrixFactorizationConfig,
    Progress,
    TrainedMatrixFactorization,
)

__all__ = ["Battles", "MatrixFactorizationConfig", "Progress", "TrainedMatrixFactorization", "train_mf"]
