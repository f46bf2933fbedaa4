"""Several trainings of mf folded into one router: its logits are the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from routellm_fast.data.battles import Battles
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.training._mf_run import Task
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.held_out import loss_and_accuracy, results_by_source
from routellm_fast.training.matrix_factorization import TrainedMatrixFactorization, fit
from routellm_fast.training.progress import OnProgress, Progress


def train_ensemble(
    battles: Battles,
    embedder: Embedder,
    config: MatrixFactorizationConfig | None = None,
    *,
    members: int,
    refit: bool = False,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedMatrixFactorization:
    """Train K members with the seeds config.seed, config.seed + 1, … and fold them.

    All hold out the groups that config.seed draws. The metrics are those of `matrix_factorization.train`, with the
    ensemble's results on the held-out groups, `held_out`, and the members' own metrics, `members`, instead of `epochs`
    and `best_epoch`.

    Args:
        battles: See matrix_factorization.train, as for all others but members.
        embedder: Embeds the prompts, which are embedded once.
        config: None for RouteLLM's own settings.
        members: K, at least 2.
        refit: Refit each member.
        checkpoint: Holds a checkpoint of each member.
        on_progress: Called as prompts are embedded, and after each epoch; parts count the members.

    Raises:
        InvalidArgumentError: Fewer than two members, or see train.
    """
    config = config or MatrixFactorizationConfig()
    if members < 2 or config.seed + members > 1 << 63:
        raise InvalidArgumentError(
            f"an ensemble has at least 2 members with seeds below 2^63, found {members} from seed {config.seed}"
        )
    require("torch", "train")
    task = Task.of(battles, embedder, config, on_progress)
    trained: list[TrainedMatrixFactorization] = []
    for index in range(members):

        def report(progress: Progress, before: int = index) -> None:
            if on_progress is not None:
                part = before * progress.parts + progress.part
                on_progress(progress.in_part(part, members * progress.parts))

        own = replace(config, seed=config.seed + index)
        folder = checkpoint and checkpoint / f"member-{index + 1}"
        trained.append(fit(task, own, refit=refit, checkpoint=folder, on_progress=report))
    logits = np.mean([member.logits.astype(np.float64) for member in trained], axis=0)
    target, weight = (column[task.out].astype(np.float64) for column in (battles.target, battles.weight))
    loss, accuracy = loss_and_accuracy(logits[task.out], target, weight)
    shared = {
        name: value
        for name, value in trained[0].metrics.items()
        if name in ("battles", "prompts", "prompt_groups", "models")
    }
    metrics: dict[str, Any] = {
        **shared,
        "config": asdict(config),
        "held_out": {"loss": loss, "accuracy": accuracy},
        "held_out_by_source": results_by_source(battles, task.out, logits),
        "members": [dict(member.metrics) for member in trained],
    }
    return replace(folded(trained), metrics=metrics, logits=logits.astype(np.float32))


def folded(members: Sequence[TrainedMatrixFactorization]) -> TrainedMatrixFactorization:
    """Return one mf whose logits are the mean of the members', up to float32 rounding.

    P's rows are the members' unit rows side by side and so of length sqrt(K); W is stacked. mf scales rows to unit
    length, w_k sqrt(K) / K takes that back and makes the sum a mean:
    sum_k (w_k sqrt(K) / K) . (P_k / |P_k| / sqrt(K) o W_k e) = 1/K sum_k w_k . (P_k / |P_k| o W_k e).

    Raises:
        InvalidArgumentError: No members, members of different models or dimensions, or a model vector that is zero.
    """
    if not members:
        raise InvalidArgumentError("an ensemble needs members")
    names, dim = members[0].model_names, members[0].W.shape[1]
    for member in members:
        if member.model_names != names or member.W.shape[1] != dim:
            raise InvalidArgumentError(
                f"members must have the same models in the same order and the same dimensions: found "
                f"{', '.join(names)} of {dim} and {', '.join(member.model_names)} of {member.W.shape[1]}"
            )
    unit = []
    for member in members:
        wide = member.P.astype(np.float64)
        length = np.linalg.norm(wide, axis=1, keepdims=True)
        if not length.all():
            raise InvalidArgumentError(f"the vector of {names[int(np.argmin(length))]!r} is zero in a member")
        unit.append(wide / length)
    scale = np.sqrt(len(members)) / len(members)
    return TrainedMatrixFactorization(
        model_names=names,
        P=np.concatenate(unit, axis=1).astype(np.float32),
        W=np.concatenate([member.W for member in members]),
        w=np.concatenate([member.w.astype(np.float64) * scale for member in members]).astype(np.float32),
    )
