"""The loop on a trainee whose losses are written down: one weight, which each epoch raises by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_fast.errors import ArtifactFormatError, InvalidArgumentError
from routellm_fast.training import Progress
from routellm_fast.training.checkpoint import Checkpoint
from routellm_fast.training.epoch_loop import Epoch, Trainee, run_epochs
from routellm_fast.training.progress import OnProgress

torch = pytest.importorskip("torch")


class Counting(Trainee):
    title = "a counting training"

    def __init__(self, losses: Sequence[float]) -> None:
        self.torch, self.losses = torch, losses
        self.weights = {"only": torch.zeros(1, requires_grad=True)}
        self.optimizer = torch.optim.SGD(list(self.weights.values()), lr=0.0)
        self.trained: list[int] = []
        self.random = np.zeros(1, dtype=np.int64)

    def train_epoch(self, epoch: int, on_progress: OnProgress) -> Epoch:
        self.trained.append(epoch)
        on_progress(Progress("half an epoch", 1, 2))
        self.set_rate(1.0)
        self.weights["only"].grad = -torch.ones(1)
        self.optimizer.step()
        self.random += 10
        loss = self.losses[epoch - 1]
        outputs = {"best.said": np.full(2, epoch, dtype=np.float32)}
        return Epoch({"held_out_loss": loss}, loss, 0.0, loss, outputs)

    def blank_outputs(self) -> dict[str, Any]:
        return {"best.said": np.zeros(2, dtype=np.float32)}

    def state(self) -> dict[str, Any]:
        return {"random": self.random}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.random = state["random"]


def test_the_best_epoch_is_kept_with_its_weights_and_outputs() -> None:
    trainee, seen = Counting([3.0, 1.0, 2.0, 2.0, 0.0]), []
    fitted = run_epochs(trainee, max_epochs=5, patience=2, on_progress=seen.append)
    assert trainee.trained == [1, 2, 3, 4], "two epochs without a lower loss end it"
    assert fitted.best_epoch == 2
    assert [report["held_out_loss"] for report in fitted.epochs] == [3.0, 1.0, 2.0, 2.0]
    assert trainee.weights["only"].item() == 2.0
    assert fitted.outputs["best.said"].tolist() == [2.0, 2.0]
    assert [(at.name, at.epoch) for at in seen[:2]] == [("half an epoch", 0), ("epoch 1, held-out loss 3.0000", 1)]


def test_where_nothing_is_held_out_every_epoch_is_trained_and_the_last_kept() -> None:
    trainee = Counting([1.0, 2.0, 3.0])
    fitted = run_epochs(trainee, max_epochs=3, patience=None)
    assert fitted.best_epoch == 3
    assert trainee.weights["only"].item() == 3.0
    assert fitted.outputs["best.said"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("patience", [2, None])
def test_a_checkpoint_holds_all_that_the_rest_depends_on(tmp_path: Path, patience: int | None) -> None:
    losses = [3.0, 1.0, 2.0, 2.5]
    whole = Counting(losses)
    expected = run_epochs(whole, max_epochs=4, patience=patience)
    checkpoint = Checkpoint(tmp_path / "c", {"trainer": "counting"})
    run_epochs(Counting(losses), max_epochs=3, patience=patience, checkpoint=checkpoint)
    rest = Counting(losses)
    found = run_epochs(rest, max_epochs=4, patience=patience, checkpoint=checkpoint)
    assert rest.trained == [4]
    assert (found.epochs, found.best_epoch) == (expected.epochs, expected.best_epoch)
    assert found.outputs["best.said"].tolist() == expected.outputs["best.said"].tolist()
    assert rest.weights["only"].item() == whole.weights["only"].item()
    assert rest.random.tolist() == [40]


def test_a_state_without_its_numbers_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c", {"trainer": "counting"})
    run_epochs(Counting([1.0]), max_epochs=1, patience=1, checkpoint=checkpoint)
    saved = checkpoint.load()
    assert saved is not None
    state, tensors = saved
    del state["best_epoch"]
    checkpoint.save(state, tensors)
    with pytest.raises(ArtifactFormatError, match=r"no state of a counting training \(KeyError\('best_epoch'\)\)"):
        run_epochs(Counting([1.0]), max_epochs=1, patience=1, checkpoint=checkpoint)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    with pytest.raises(InvalidArgumentError, match="the loss of epoch 2 is nan"):
        run_epochs(Counting([1.0, math.nan]), max_epochs=2, patience=2)
