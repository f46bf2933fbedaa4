"""Train RouteLLM's `mf`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from routellm_fast.arrays import FloatArray, brief_repr
from routellm_fast.data.battles import Battles
from routellm_fast.embedders.base import Embedder
from routellm_fast.extras import require
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.training._mf_run import LOGITS, Run, Task
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.deterministic import deterministic
from routellm_fast.training.epoch_loop import run_epochs
from routellm_fast.training.held_out import results_by_source, split_counts
from routellm_fast.training.progress import OnProgress, ignore_progress


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

    __repr__ = brief_repr

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
        embedder: Embeds the prompts. Surface features of a StaticEmbedder are scaled apart from its token dimensions.
        config: None for RouteLLM's own settings.
        refit: Then train again, on all battles, for as many epochs as were best, with the same seed and schedule. The
            held-out results are those from before.
        checkpoint: A directory in which the state is kept after each epoch. Where there is one of the same training,
            that goes on from it, to the same bytes. It stays when the training is done.
        on_progress: Called as prompts are embedded, and after each epoch when its checkpoint is written.

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
    task = Task.of(battles, embedder, config, on_progress)
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
    report = on_progress or ignore_progress
    with deterministic(torch):
        run = Run(torch, task, ~out, config)
        found = run_epochs(
            run,
            max_epochs=config.max_epochs,
            patience=config.patience,
            checkpoint=run.checkpoint(checkpoint and checkpoint / "training"),
            on_progress=lambda progress: report(progress.in_part(1, parts)),
        )
        logits = found.outputs[LOGITS]
        metrics: dict[str, Any] = {
            **split_counts(battles, out),
            "config": asdict(config),
            "epochs": found.epochs,
            "best_epoch": found.best_epoch,
            "held_out_by_source": results_by_source(battles, out, logits),
        }
        if refit:
            run = Run(torch, task, np.ones_like(out), config)
            again = run_epochs(
                run,
                max_epochs=found.best_epoch,
                patience=None,
                checkpoint=run.checkpoint(checkpoint and checkpoint / "refit"),
                on_progress=lambda progress: report(progress.in_part(2, parts)),
            )
            metrics["refit"] = {"battles": len(battles), "epochs": again.epochs}
        weights = run.copied_weights()
    return TrainedMatrixFactorization(
        model_names=battles.models,
        P=weights["P"],
        W=run.scaling.fold(weights["W"].astype(np.float64)),
        w=weights["w"],
        metrics=metrics,
        logits=logits,
    )
