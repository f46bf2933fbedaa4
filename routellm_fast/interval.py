"""Numbers with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast import strict
from routellm_fast.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and its 95 % interval; low == high == value where nothing is drawn.

    Attributes:
        value: The number, measured on the sample itself.
        low: Lower end of the interval: the 2.5 % quantile over resamples.
        high: Upper end: the 97.5 % quantile.
    """

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Interval:
        """Return a number that is known without doubt."""
        return cls(value, value, value)

    @classmethod
    def of(cls, value: float, draws: NDArray[np.float64], *, decimals: int | None = 9) -> Interval:
        """Take the interval from resamples, and widen it where needed so that the value lies inside.

        Args:
            value: The number on the sample itself.
            draws: (n,) the number on each resample; those that are NaN gave none and are left out.
            decimals: Round all three numbers to so many decimals; None keeps them as they are.
        """
        drawn = draws[~np.isnan(draws)]
        low, high = np.quantile(drawn, (0.025, 0.975)) if drawn.size else (value, value)
        parts = [float(value), min(float(low), float(value)), max(float(high), float(value))]
        return cls(*(parts if decimals is None else [round(part, decimals) for part in parts]))

    @property
    def width(self) -> float:
        """The distance from low to high."""
        return self.high - self.low

    def to_list(self) -> list[float]:
        """Return [value, low, high], the form that router.json holds."""
        return [self.value, self.low, self.high]

    @classmethod
    def from_list(cls, value: Any, what: str, *, unit: bool = False) -> Interval:
        """Read what to_list wrote.

        Args:
            value: The JSON value.
            what: Name of the value, for the error's text.
            unit: Whether all three numbers must lie in [0, 1].

        Raises:
            InvalidArgumentError: It is no list of three such numbers, or the first is not between the other two.
        """
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise InvalidArgumentError(f"{what} must be a list of value, low and high")
        limits = (0.0, 1.0) if unit else ()
        found = cls(*(strict.number(part, what, *limits) for part in value))
        if not found.low <= found.value <= found.high:
            raise InvalidArgumentError(f"{what} must have its value between low and high, found {list(value)}")
        return found
