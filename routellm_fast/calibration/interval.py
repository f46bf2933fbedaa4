"""Numbers with their uncertainty."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routellm_fast.calibration import _strict
from routellm_fast.errors import InvalidArgumentError


class Interval(NamedTuple):
    """A number and its 95 % interval.

    Attributes:
        value: On the sample itself.
        low: 2.5 % quantile over resamples.
        high: 97.5 % quantile.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: NDArray[np.float64], *, decimals: int | None = 9) -> Interval:
        """Take the interval from resamples; those that are NaN gave no number. The value always lies inside."""
        drawn = draws[~np.isnan(draws)]
        low, high = np.quantile(drawn, (0.025, 0.975)) if drawn.size else (value, value)
        parts = [float(value), min(float(low), float(value)), max(float(high), float(value))]
        return cls(*(parts if decimals is None else [round(part, decimals) for part in parts]))

    @classmethod
    def from_json(cls, value: Any, what: str, *, unit: bool = False) -> Interval:
        """Read [value, low, high], of numbers in [0, 1] where `unit`. Raises InvalidArgumentError."""
        if not isinstance(value, (list, tuple)) or len(value) != 3:
            raise InvalidArgumentError(f"{what} must be a list of value, low and high")
        limits = (0.0, 1.0) if unit else ()
        found = cls(*(_strict.number(part, what, *limits) for part in value))
        if not found.low <= found.value <= found.high:
            raise InvalidArgumentError(f"{what} must have its value between low and high, found {list(value)}")
        return found
