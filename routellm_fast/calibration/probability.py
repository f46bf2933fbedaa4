"""Maps from a win rate to the probability that the strong model's answer is the better one.

A map never falls, so it keeps the order of the prompts. `routellm_fast.thresholds.probability_fit` fits them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from routellm_fast import strict
from routellm_fast.arrays import brief_repr
from routellm_fast.errors import InvalidArgumentError

Floats = NDArray[np.float64]
Method = Literal["platt", "isotonic"]
METHODS: Final = ("platt", "isotonic")

# Win rates of 0 and 1 have no finite logit, and a certain prediction that fails has no finite loss.
_EDGE: Final = 1e-6
# Far beyond any fit, and far from where float64 ends.
_STEEPEST: Final = 1e12


@dataclass(frozen=True, slots=True)
class PlattMap:
    """Logistic regression on the logit of the win rate: sigmoid(slope · logit(win rate) + intercept)."""

    slope: float
    intercept: float

    def __call__(self, win_rates: NDArray[Any]) -> Floats:
        """Return (n,) probabilities."""
        return sigmoid(self.slope * logit(win_rates) + self.intercept)

    @property
    def levels(self) -> int | None:
        """Number of values that the map can yield: 1 where it is flat, None for any number."""
        return None if self.slope > 0.0 else 1

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True, slots=True)
class IsotonicMap:
    """The never-falling steps nearest to the outcomes, joined by lines from the middle of one to that of the next.

    Attributes:
        win_rates: Mean win rate of each step, rising strictly.
        probabilities: Probability at each step, never falling.
    """

    win_rates: tuple[float, ...]
    probabilities: tuple[float, ...]

    __repr__ = brief_repr

    def __call__(self, win_rates: NDArray[Any]) -> Floats:
        """Return (n,) probabilities."""
        return np.interp(np.asarray(win_rates, dtype=np.float64), self.win_rates, self.probabilities)

    @property
    def levels(self) -> int | None:
        """Number of different probabilities of its steps."""
        return len(set(self.probabilities))

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        return {"method": "isotonic", "win_rates": list(self.win_rates), "probabilities": list(self.probabilities)}


ProbabilityMap = PlattMap | IsotonicMap


def map_from_json(value: Any) -> ProbabilityMap:
    """Read what to_json wrote. Raises InvalidArgumentError."""
    what = "calibration.probability"
    method = value.get("method") if isinstance(value, dict) else None
    if method == "platt":
        found = strict.fields(value, what, ("method", "slope", "intercept"))
        return PlattMap(
            strict.number(found["slope"], f"{what}.slope", 0.0, _STEEPEST),
            strict.number(found["intercept"], f"{what}.intercept", -_STEEPEST, _STEEPEST),
        )
    if method != "isotonic":
        raise InvalidArgumentError(f"{what} must have the method platt or isotonic, found {method!r}")
    found = strict.fields(value, what, ("method", "win_rates", "probabilities"))
    win_rates = strict.rising(found["win_rates"], f"{what}.win_rates", strictly=True)
    probabilities = strict.rising(found["probabilities"], f"{what}.probabilities")
    if len(win_rates) != len(probabilities):
        raise InvalidArgumentError(
            f"{what} must have one probability a win rate, found {len(probabilities)} and {len(win_rates)}"
        )
    return IsotonicMap(win_rates, probabilities)


def clipped(probabilities: NDArray[Any]) -> Floats:
    """Return (n,) float64 probabilities moved just inside (0, 1), where logits and log losses are finite."""
    return np.clip(np.asarray(probabilities, dtype=np.float64), _EDGE, 1.0 - _EDGE)


def logit(win_rates: NDArray[Any]) -> Floats:
    """Return (n,) float64 logits of win rates in [0, 1], finite at both ends."""
    p = clipped(win_rates)
    return np.log(p) - np.log1p(-p)


def sigmoid(x: Floats) -> Floats:
    """Return (n,) values in [0, 1]: the inverse of the logit."""
    # The smaller exponential of two, so that neither overflows.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)
