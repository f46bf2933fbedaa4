"""What everything that routes prompts has in common, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from routellm_fast.arrays import FloatArray
from routellm_fast.decision import Decision, ModelPair, NoText


class RoutesPrompts(Protocol):
    """A router in this process (`routellm_fast.routers.Router`), behind Triton (`TritonRouter`), or one's own.

    Implementations are thread-safe. One may also have `answers_at_once` (see Router), or `aroute`, which is route for
    event loops; without them `RouterSet.adecide` asks in a thread.
    """

    @property
    def kind(self) -> str:
        """What sort of router it is, e.g. "mf"."""
        ...

    @property
    def model_pair(self) -> ModelPair:
        """The models that prompts are sent to."""
        ...

    @property
    def default_threshold(self) -> float:
        """The threshold of decisions for which none is given. Raises InvalidArgumentError where none is known."""
        ...

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold that sends this share of the calibration prompts to the strong model.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
            InvalidArgumentError: The router is not calibrated.
        """
        ...

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates of the strong model, in [0, 1]."""
        ...

    def route(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Choose the strong model when its win rate is at least the threshold; None for default_threshold."""
        ...
