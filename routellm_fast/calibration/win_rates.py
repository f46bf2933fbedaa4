"""What win rates must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import InvalidArgumentError


def check_win_rates(win_rates: NDArray[Any]) -> None:
    """Refuse what is no (n,) array of win rates, n >= 1."""
    if win_rates.ndim != 1 or win_rates.size == 0:
        raise InvalidArgumentError(f"expected a (n,) array of win rates, n >= 1, found shape {win_rates.shape}")
    wrong = np.flatnonzero(~((win_rates >= 0.0) & (win_rates <= 1.0)))
    if wrong.size:
        raise InvalidArgumentError(f"win rates lie in [0, 1]; number {wrong[0]} is {win_rates[wrong[0]]}")
