"""What a router should reach on the user's traffic, and the strong share that reaches it, by labels it did not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from routellm_fast import strict
from routellm_fast.adaptation.labels import Labels
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.thresholds.rising import rising_steps

GoalKind = Literal["quality", "strong_share", "usd_per_1k"]
_ROUNDING: Final = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Goal:
    """What to reach.

    Attributes:
        kind: "quality": at least this share of the strong model's mean score, at the least strong share.
            "strong_share": this share of requests at the strong model. "usd_per_1k": a thousand requests cost at most
            this many US dollars, at the largest strong share.
        value: The share, in (0, 1], or the US dollars, above 0.
    """

    kind: GoalKind = "quality"
    value: float = 0.95

    def __post_init__(self) -> None:
        """Refuse what no router can mean."""
        if self.kind not in get_args(GoalKind):
            raise InvalidArgumentError(f"a goal is one of {', '.join(get_args(GoalKind))}, found {self.kind!r}")
        high = float("inf") if self.kind == "usd_per_1k" else 1.0
        value = strict.number(self.value, self.kind, 0.0, high)
        if value == 0.0 and self.kind != "strong_share":
            raise InvalidArgumentError(f"a goal of {self.kind} is above 0, found {value:g}")
        object.__setattr__(self, "value", value)

    @property
    def text(self) -> str:
        """The goal in words."""
        if self.kind == "usd_per_1k":
            return f"{self.value:.6g} USD for 1,000 requests"
        what = "of the strong model's quality" if self.kind == "quality" else "of requests at the strong model"
        return f"{100.0 * self.value:.6g} % {what}"

    @property
    def kept_quality(self) -> float | None:
        """The share of the strong model's quality that is asked for; None where something else is."""
        return self.value if self.kind == "quality" else None


@dataclass(frozen=True, slots=True)
class Planned:
    """The strong share that is expected to reach a goal.

    Attributes:
        strong_share: Share of requests at the strong model, in [0, 1].
        quality: Expected mean score there, as a share of the strong model's; NaN where that is 0.
        is_reached: Whether the goal is expected to be reached; otherwise this share comes nearest.
    """

    strong_share: float
    quality: float
    is_reached: bool


def planned(goal: Goal, labels: Labels, scores: Floats) -> Planned:
    """Return the strong share for a goal.

    What a prompt gains by the strong model is taken from its score by a rising function: with the measured gains
    themselves the best of many shares would look better than it is.

    Args:
        goal: What to reach.
        labels: n labels.
        scores: (n,) of each label, by a router that did not learn from it.

    Raises:
        InvalidArgumentError: The goal is a cost, and the labels have none.
    """
    count = len(labels)
    order = np.argsort(-scores, kind="stable")
    steps = rising_steps(scores, labels.gap, np.ones(count))
    expected = np.repeat([step.mean for step in reversed(steps)], [round(step.mass) for step in reversed(steps)])
    shares = np.arange(count + 1) / count
    strong, weak = float(labels.strong.mean()), float(labels.weak.mean())
    quality = weak + np.concatenate([[0.0], np.cumsum(expected)]) / count
    size = _ROUNDING * max(strong, weak, 1.0)
    if goal.kind == "strong_share":
        at = int(np.argmin(np.abs(shares - goal.value)))
        return Planned(goal.value, _share_of(quality[at], strong), True)
    if goal.kind == "quality":
        reached = np.flatnonzero(quality >= goal.value * strong - size)
        at = int(reached[0] if reached.size else np.argmax(quality))
        return Planned(float(shares[at]), _share_of(quality[at], strong), bool(reached.size))
    if labels.costs_usd is None:
        raise InvalidArgumentError("a goal of cost needs what answers cost: give prices, or costs with the labels")
    spent = labels.costs_usd[order, 0] - labels.costs_usd[order, 1]
    cost = 1000.0 * (labels.costs_usd[:, 1].sum() + np.concatenate([[0.0], np.cumsum(spent)])) / count
    within = np.flatnonzero(cost <= goal.value + size)
    at = int(within[-1] if within.size else np.argmin(cost))
    return Planned(float(shares[at]), _share_of(quality[at], strong), bool(within.size))


def _share_of(quality: float, strong: float) -> float:
    return float(quality / strong) if strong > 0.0 else float("nan")
