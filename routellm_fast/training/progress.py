"""How every trainer reports its progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands: `done` of `total` steps of what `name` says. After an epoch it carries the losses too.

    Attributes:
        name: What is being done, for a person to read.
        done: Steps done.
        total: Steps in all.
        epoch: Epochs done, from 1; 0 where no epoch has just ended.
        max_epochs: Epochs at most.
        train_loss: Mean loss in nats on what the epoch trained on.
        held_out_loss: Mean loss in nats on what is held out; NaN in a refit, which holds nothing out.
        part: Which of `parts` trainings of one call this is, from 1: members of an ensemble, and their refits.
        parts: How many there are.
    """

    name: str
    done: int
    total: int
    epoch: int = 0
    max_epochs: int = 0
    train_loss: float = math.nan
    held_out_loss: float = math.nan
    part: int = 1
    parts: int = 1

    @classmethod
    def of_epoch(
        cls, epoch: int, max_epochs: int, train_loss: float, held_out_loss: float, part: int = 1, parts: int = 1
    ) -> Progress:
        """Return the report at the end of an epoch."""
        prefix = f"part {part} of {parts}, " if parts > 1 else ""
        loss = f"loss {train_loss:.4f}" if math.isnan(held_out_loss) else f"held-out loss {held_out_loss:.4f}"
        return cls(
            f"{prefix}epoch {epoch}, {loss}",
            (part - 1) * max_epochs + epoch,
            parts * max_epochs,
            epoch,
            max_epochs,
            train_loss,
            held_out_loss,
            part,
            parts,
        )

    def in_part(self, part: int, parts: int) -> Progress:
        """Return the same end of an epoch as one of several trainings."""
        return Progress.of_epoch(self.epoch, self.max_epochs, self.train_loss, self.held_out_loss, part, parts)


OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Do nothing: the callback where the caller gave none."""
