"""Where a training stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training stands after an epoch. Losses are mean log losses in nats.

    Attributes:
        epoch: Epochs done, from 1.
        max_epochs: Epochs at most.
        train_loss: On the battles trained on.
        held_out_loss: On those held out; NaN in a refit, which holds none out.
        part: Which of `parts` trainings of one call this is, from 1: members of an ensemble, and their refits.
        parts: How many there are.
    """

    epoch: int
    max_epochs: int
    train_loss: float
    held_out_loss: float
    part: int = 1
    parts: int = 1


OnProgress = Callable[[Progress], None]
