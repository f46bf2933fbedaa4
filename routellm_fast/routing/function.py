"""A router that a function is: one's own, or RouteLLM's random one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.decision import (
    DEFAULT_STRONG_SHARE,
    Decision,
    ModelPair,
    NoText,
    basis_of,
    check_no_text,
    check_share,
    decide,
)
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.texts import check_texts

# Where nobody has named the models.
NAMELESS_PAIR: Final = ModelPair("strong", "weak")


class FunctionRouter:
    """Routes by a function from a prompt to a win rate, e.g. `calculate_strong_win_rate` of a router for RouteLLM.

    Thread-safe where the function is. It cannot be saved: a router directory holds data, and no code.
    """

    def __init__(
        self,
        win_rate: Callable[[str], Any],
        *,
        kind: str = "function",
        model_pair: ModelPair = NAMELESS_PAIR,
        threshold_for: Callable[[float], float] | None = None,
        answers_at_once: bool = False,
    ) -> None:
        """Keep the function.

        Args:
            win_rate: Returns the strong model's win rate in [0, 1] for a prompt.
            kind: What the router calls itself.
            model_pair: The models that prompts are sent to.
            threshold_for: Returns the threshold for a strong share in [0, 1]; None where nothing says which.
            answers_at_once: Whether the function takes microseconds, without input or output; see Router.
        """
        if not callable(win_rate):
            raise TypeError(f"win_rate is a function from a prompt to a win rate, found {type(win_rate).__name__}")
        self._win_rate, self._threshold_for = win_rate, threshold_for
        self._kind, self._model_pair, self._answers_at_once = kind, ModelPair(*model_pair), answers_at_once

    @classmethod
    def random(cls, model_pair: ModelPair = NAMELESS_PAIR) -> FunctionRouter:
        """Return RouteLLM's random router: each call draws a win rate anew, from Python's own `random`.

        After `random.seed(n)` it draws what RouteLLM's draws. `RandomRouter` draws by seed and prompt instead, so that
        a prompt always gets the same answer.
        """
        return cls(
            lambda _: random.uniform(0, 1),  # noqa: S311 - the control that every other router must beat
            kind="random",
            model_pair=model_pair,
            threshold_for=lambda strong_share: 1.0 - strong_share,
            answers_at_once=True,
        )

    @property
    def kind(self) -> str:
        """What the router calls itself."""
        return self._kind

    @property
    def model_pair(self) -> ModelPair:
        """The models that prompts are sent to."""
        return self._model_pair

    @property
    def answers_at_once(self) -> bool:
        """See Router.answers_at_once."""
        return self._answers_at_once

    @property
    def default_threshold(self) -> float:
        """The threshold for a strong share of 50 %. Raises InvalidArgumentError where nothing says which."""
        return self.threshold_for(DEFAULT_STRONG_SHARE)

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold for a strong share.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
            InvalidArgumentError: The router was given no function that knows.
        """
        share = check_share(strong_share, "strong share")
        if self._threshold_for is None:
            raise InvalidArgumentError(
                f"nothing says which threshold suits the win rates of this {self._kind} router: give a threshold, or "
                "the router a threshold_for"
            )
        return check_share(self._threshold_for(share), f"the threshold of the {self._kind} router")

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates. Raises InvalidThresholdError where the function returns none."""
        return np.array([self._scored(prompt) for prompt in check_texts(prompts)], dtype=np.float32)

    def route(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Choose the strong model when its win rate is at least the threshold; see Router.route."""
        limit = self.default_threshold if threshold is None else check_share(threshold, "threshold")
        check_no_text(no_text)
        (text,) = check_texts([prompt])
        return decide(self._model_pair, self._scored(text), limit, basis_of(text, is_whole=True), no_text)

    def _scored(self, prompt: str) -> float:
        return check_share(self._win_rate(prompt), f"the win rate of the {self._kind} router")

    def __repr__(self) -> str:
        """Kind and model pair."""
        strong, weak = self._model_pair
        return f"FunctionRouter(kind={self._kind!r}, strong={strong!r}, weak={weak!r})"
