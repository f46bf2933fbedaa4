from __future__ import annotations

import math

from routellm_fast.training import Progress


def test_an_epoch_counts_as_a_step_and_shows_the_loss_that_decides() -> None:
    at = Progress.of_epoch(2, 5, 0.75, 0.5)
    assert (at.name, at.done, at.total) == ("epoch 2, held-out loss 0.5000", 2, 5)
    assert (at.epoch, at.max_epochs, at.train_loss, at.held_out_loss, at.part, at.parts) == (2, 5, 0.75, 0.5, 1, 1)


def test_a_refit_holds_nothing_out_and_shows_its_training_loss() -> None:
    at = Progress.of_epoch(2, 5, 0.75, math.nan).in_part(2, 2)
    assert (at.name, at.done, at.total) == ("part 2 of 2, epoch 2, loss 0.7500", 7, 10)
    assert (at.part, at.parts) == (2, 2)


def test_other_work_has_no_epoch() -> None:
    at = Progress("embedding prompts", 3, 7)
    assert at.epoch == 0
    assert math.isnan(at.train_loss)
