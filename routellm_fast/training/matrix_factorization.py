"""Train RouteLLM's `mf`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.training._mf_run import Run, Task
from routellm_fast.training.deterministic import deterministic
from routellm_fast.training.held_out import results_by_source
from routellm_fast.training.progress import OnProgress, Progress

__all__ = ["MatrixFactorizationConfig", "Progress", "TrainedMatrixFactorization", "fit", "train"]

# Far beyond any use, and far from where float32 ends.
_MAX_SCALE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixFactorizationConfig:
    """How to train.

    Attributes:
        d: Length of a model vector.
        learning_rate: Adam's; falls linearly to 0 over max_epochs.
        weight_decay: Adam's, on all weights.
        batch_size: Battles a step.
        max_epochs: Passes over the battles, at most.
        patience: Stop after this many epochs without a lower held-out loss.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        noise: Standard deviation of normal noise added to the token dimensions while training (RouteLLM's alpha), after
            they were scaled to unit variance.
        token_scale: Scale of the token dimensions in training. Below 1, weight decay holds them closer to zero.
        surface_scale: Scale of the surface features in training.
        seed: Of initial weights, order, noise and the held-out groups.
    """

    d: int = 128
    learning_rate: float = 3e-4
    weight_decay: float = 1e-5
    batch_size: int = 64
    max_epochs: int = 20
    patience: int = 3
    held_out_share: float = 0.1
    noise: float = 0.1
    token_scale: float = 1.0
    surface_scale: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        counts = (self.d, self.batch_size, self.max_epochs, self.patience)
        scales = (self.learning_rate, self.token_scale, self.surface_scale)
        fits = all(count >= 1 for count in counts) and all(0 < scale <= _MAX_SCALE for scale in scales)
        fits = fits and all(0 <= strength <= _MAX_SCALE for strength in (self.weight_decay, self.noise))
        if not fits or not 0.0 < self.held_out_share < 1.0:
            raise InvalidArgumentError(
                "counts are at least 1, learning rate and scales above 0, weight decay and noise at least 0, all at "
                f"most {_MAX_SCALE:g}, and the held-out share lies between 0 and 1; found {self}"
            )
        if not 0 <= self.seed < 1 << 63:
            raise InvalidArgumentError(f"a seed is an integer in [0, 2^63), found {self.seed}")


@dataclass(frozen=True, slots=True, eq=False)
class TrainedMatrixFactorization:
    """What MatrixFactorizationRouter takes, and how it came about.

    Attributes:
        model_names: The m models in the order of P's rows.
        P: (m, d) float32.
        W: (d, dim) float32, for embeddings as the embedder makes them.
        w: (d,) float32.
        metrics: JSON-able: counts, config, losses and accuracy by epoch, and held-out results by source.
        logits: (n,) float32, of all battles, by the model that the held-out loss chose: a refit has seen those too.
    """

    model_names: tuple[str, ...]
    P: FloatArray
    W: FloatArray
    w: FloatArray
    metrics: Mapping[str, Any] = field(default_factory=dict)
    logits: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32), repr=False)

    def router(self, **common: Any) -> MatrixFactorizationRouter:
        """Return the router; see MatrixFactorizationRouter for the arguments, model_pair and embedder first of all."""
        return MatrixFactorizationRouter(self.model_names, self.P, self.W, self.w, **common)


def train(
    battles: Battles,
    embedder: Embedder,
    config: MatrixFactorizationConfig | None = None,
    *,
    refit: bool = False,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedMatrixFactorization:
    """Train model vectors and the projection of embeddings on battles.

    logit_m = w . (P_m / |P_m| o W e), no biases; the log loss of sigmoid(logit_a - logit_b) is minimised with Adam,
    and the epoch with the least loss on held-out prompt groups is kept. The same battles, embedder and config give
    the same bytes on one machine: one thread, deterministic kernels, own random state.

    Args:
        battles: What to learn from; see routellm_fast.data.
        embedder: Of the prompts. Surface features of a StaticEmbedder are scaled apart from its token dimensions.
        config: None for RouteLLM's own settings.
        refit: Then train again, on all battles, for as many epochs as were best, with the same seed and schedule. The
            held-out results are those from before.
        checkpoint: A directory in which the state is kept after each epoch. Where there is one of the same training,
            that goes on from it, to the same bytes. It stays when the training is done.
        on_progress: Called after each epoch, when its checkpoint is written.

    Raises:
        InvalidArgumentError: Nothing is left on one side of the split, or the training diverged.
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactError: The checkpoint is damaged, or cannot be written.
        MissingExtraError: torch is not installed.

    Source:
        RouteLLM's train_matrix_factorization.py; early stopping, weights, soft targets and the scaling are ours.
    """
    config = config or MatrixFactorizationConfig()
    require("torch", "train")  # before the prompts are embedded
    task = Task.of(battles, embedder, config)
    return fit(task, config, refit=refit, checkpoint=checkpoint, on_progress=on_progress)


def fit(
    task: Task,
    config: MatrixFactorizationConfig,
    *,
    refit: bool = False,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedMatrixFactorization:
    """Do what `train` does once prompts are embedded and split; see there."""
    torch = require("torch", "train")
    battles, out = task.battles, task.out
    parts = 2 if refit else 1
    report = on_progress or _ignore
    with deterministic(torch):
        run = Run(torch, task, ~out, config, checkpoint and checkpoint / "training")
        found = run.fit(config.max_epochs, lambda progress: report(replace(progress, parts=parts)))
        metrics: dict[str, Any] = {
            "battles": {"train": int((~out).sum()), "held_out": int(out.sum())},
            "prompts": len(battles.prompts),
            "prompt_groups": len(set(battles.groups)),
            "models": len(battles.models),
            "config": asdict(config),
            "epochs": found.epochs,
            "best_epoch": found.best_epoch,
            "held_out_by_source": results_by_source(battles, out, found.logits),
        }
        weights, scaling = found.weights, run.scaling
        if refit:
            run = Run(torch, task, np.ones_like(out), config, checkpoint and checkpoint / "refit")
            again = run.fit(found.best_epoch, lambda progress: report(replace(progress, part=2, parts=2)))
            weights, scaling = again.weights, run.scaling
            metrics["refit"] = {"battles": len(battles), "epochs": again.epochs}
    return TrainedMatrixFactorization(
        model_names=battles.models,
        P=weights["P"],
        W=scaling.fold(weights["W"].astype(np.float64)),
        w=weights["w"],
        metrics=metrics,
        logits=found.logits,
    )


def _ignore(progress: Progress) -> None:
    pass
