"""Training by epochs: the one loop of all kinds that gradient descent in torch trains.

After each epoch the loop keeps the weights if they are the best so far, writes a checkpoint and reports. It stops when
the held-out loss has not become lower for some epochs. A `Trainee` is what differs between kinds: the weights, and how
one epoch is trained and measured.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError
from routellm_fast.training.checkpoint import Checkpoint
from routellm_fast.training.progress import OnProgress, Progress, ignore_progress


@dataclass(slots=True)
class EarlyStopping:
    """Which epoch had the least held-out loss, and whether to go on.

    Attributes:
        patience: Stop after this many epochs without a lower loss.
        best_loss: Least so far.
        best_epoch: When that was, from 1; 0 before the first.
    """

    patience: int
    best_loss: float = math.inf
    best_epoch: int = 0

    def is_best(self, epoch: int, loss: float) -> bool:
        """Say whether an epoch's loss is the least so far. Raises InvalidArgumentError if it is not finite."""
        if not math.isfinite(loss):
            raise InvalidArgumentError(
                f"the loss of epoch {epoch} is {loss}: the training diverged. Give a lower learning rate, or "
                "weights that are less far apart."
            )
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            return True
        return False

    def is_over(self, epoch: int) -> bool:
        """Say whether to stop after this epoch."""
        return epoch - self.best_epoch >= self.patience


@dataclass(frozen=True, slots=True, eq=False)
class Epoch:
    """What one epoch gave. Losses are means in nats.

    Attributes:
        report: Losses and accuracies for the record, JSON-able.
        loss: The loss by which epochs are compared.
        train_loss: On what was trained on.
        held_out_loss: On what is held out; NaN where nothing is.
        outputs: What the model says with these weights, by the names that a checkpoint has for it. That of the best
            epoch is kept with its weights.
    """

    report: dict[str, float]
    loss: float
    train_loss: float
    held_out_loss: float
    outputs: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a training reached.

    Attributes:
        epochs: The report of each epoch.
        best_epoch: The one that was kept, from 1. The trainee has its weights.
        outputs: Its outputs.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    outputs: Mapping[str, FloatArray]


class Trainee(ABC):
    """One training as the loop sees it.

    Attributes:
        title: What messages call it, such as "an mf training".
        torch: The module.
        weights: What is trained, by the names that a checkpoint has for it.
        optimizer: Optimizer of these weights. The trainee sets its rate before each step (`set_rate`): a rate depends
            on the number of the step alone, so that a checkpoint need not hold it.
    """

    title: str
    torch: Any
    weights: Mapping[str, Any]
    optimizer: Any

    @abstractmethod
    def train_epoch(self, epoch: int, on_progress: OnProgress) -> Epoch:
        """Train on everything once and measure. `epoch` counts from 1."""

    def blank_outputs(self) -> dict[str, FloatArray]:
        """Return arrays of the names and shapes that every epoch's outputs have."""
        return {}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what the rest of the training depends on besides weights, optimizer and the number of the epoch."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:  # noqa: B027 - most have no such state
        """Take back what `state` returned."""

    def set_rate(self, rate: float) -> None:
        """Let the next step of the optimizer have this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def copied_weights(self) -> dict[str, FloatArray]:
        """Return copies of the weights."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in self.weights.items()}

    def set_weights(self, values: Mapping[str, FloatArray]) -> None:
        """Replace the weights."""
        with self.torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.torch.from_numpy(values[name]))


def run_epochs(
    trainee: Trainee,
    *,
    max_epochs: int,
    patience: int | None,
    checkpoint: Checkpoint | None = None,
    on_progress: OnProgress | None = None,
) -> Fitted:
    """Train, from the checkpoint on where there is one, and leave the trainee with the weights of the epoch kept.

    Args:
        trainee: What is trained.
        max_epochs: Epochs at most.
        patience: Stop after this many epochs without a lower loss, and keep the best. None where nothing is held out:
            all epochs are trained and the last is kept.
        checkpoint: Where the state is kept after each epoch.
        on_progress: Called after each epoch, when its checkpoint is written, and by the trainee in between.

    Raises:
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactError: The checkpoint is damaged or cannot be written.
        InvalidArgumentError: The training diverged.
    """
    report = on_progress or ignore_progress
    run = _Run(trainee, EarlyStopping(max_epochs if patience is None else patience), checkpoint)
    run.load()
    for epoch in range(len(run.epochs) + 1, max_epochs + 1):
        if run.stopping.is_over(epoch - 1):
            break
        found = trainee.train_epoch(epoch, report)
        run.epochs.append(found.report)
        if run.stopping.is_best(epoch, found.loss) or patience is None:
            run.best, run.outputs = trainee.copied_weights(), dict(found.outputs)
        run.save()
        report(Progress.of_epoch(epoch, max_epochs, found.train_loss, found.held_out_loss))
    trainee.set_weights(run.best)
    return Fitted(run.epochs, len(run.epochs) if patience is None else run.stopping.best_epoch, run.outputs)


class _Run:
    """The state that changes from epoch to epoch. It can be written to a checkpoint and read back."""

    def __init__(self, trainee: Trainee, stopping: EarlyStopping, checkpoint: Checkpoint | None) -> None:
        self.epochs: list[dict[str, float]] = []
        self.stopping = stopping
        self.best, self.outputs = trainee.copied_weights(), trainee.blank_outputs()
        self._trainee, self._checkpoint = trainee, checkpoint

    def save(self) -> None:
        if self._checkpoint is not None:
            state = {
                "epochs": self.epochs,
                "best_loss": self.stopping.best_loss,
                "best_epoch": self.stopping.best_epoch,
            }
            self._checkpoint.save(state, self._arrays())

    def load(self) -> None:
        saved = None if self._checkpoint is None else self._checkpoint.load()
        if self._checkpoint is None or saved is None:
            return
        trainee, (state, tensors) = self._trainee, saved
        # A step without gradient and rate makes the optimizer's state, so that there is something to compare with.
        trainee.set_rate(0.0)
        for weight in trainee.weights.values():
            weight.grad = trainee.torch.zeros_like(weight)
        trainee.optimizer.step()
        trainee.optimizer.zero_grad()
        found = {name: self._checkpoint.tensor(tensors, name, like) for name, like in self._arrays().items()}
        trainee.set_weights(_named("weights", found, trainee.weights))
        with trainee.torch.no_grad():
            for name, weight in trainee.weights.items():
                for key, value in trainee.optimizer.state[weight].items():
                    value.copy_(trainee.torch.from_numpy(found[f"adam.{name}.{key}"]).reshape(value.shape))
        trainee.restore({name: found[name] for name in trainee.state()})
        self.best, self.outputs = _named("best", found, trainee.weights), {name: found[name] for name in self.outputs}
        try:
            self.epochs = [dict(report) for report in state["epochs"]]
            self.stopping.best_loss, self.stopping.best_epoch = float(state["best_loss"]), int(state["best_epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactFormatError(
                f"{self._checkpoint.folder}/checkpoint.json holds no state of {trainee.title} ({error!r})"
            ) from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that the rest of the training depends on."""
        trainee = self._trainee
        adam = {
            # A step count has no dimension, which the file format does not know.
            f"adam.{name}.{key}": np.atleast_1d(value.cpu().numpy())
            for name, weight in trainee.weights.items()
            for key, value in trainee.optimizer.state[weight].items()
        }
        return {
            **adam,
            **{f"weights.{name}": value for name, value in trainee.copied_weights().items()},
            **{f"best.{name}": value for name, value in self.best.items()},
            **self.outputs,
            **trainee.state(),
        }


def _named(prefix: str, arrays: Mapping[str, NDArray[Any]], names: Iterable[str]) -> dict[str, FloatArray]:
    return {name: arrays[f"{prefix}.{name}"] for name in names}
