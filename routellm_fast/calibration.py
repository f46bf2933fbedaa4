"""From a share of prompts for the strong model to the threshold that yields it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from routellm_fast.decision import check_share
from routellm_fast.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """Quantiles of a router's win rates over prompts that look like its traffic.

    Attributes:
        dataset: What the prompts were.
        prompt_count: How many there were.
        table: (strong share, threshold) rows; shares rise strictly from 0 to 1, thresholds never rise.
    """

    dataset: str
    prompt_count: int
    table: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        """Refuse a table that cannot be read as a falling curve over [0, 1]."""
        shares = [share for share, _ in self.table]
        thresholds = [threshold for _, threshold in self.table]
        if len(self.table) < 2 or shares[0] != 0.0 or shares[-1] != 1.0:
            message = "a calibration table needs rows from strong share 0 to strong share 1"
            raise InvalidArgumentError(message)
        rising = all(a < b for a, b in pairwise(shares))
        falling = all(a >= b for a, b in pairwise(thresholds))
        if not rising or not falling or not all(0.0 <= t <= 1.0 for t in thresholds):
            message = "in a calibration table shares rise, thresholds fall, and both lie in [0, 1]"
            raise InvalidArgumentError(message)

    @classmethod
    def from_win_rates(cls, win_rates: NDArray[np.float32], *, dataset: str, steps: int = 1000) -> Calibration:
        """Calibrate on the win rates of a sample of prompts.

        Args:
            win_rates: (n,) win rates in [0, 1], n >= 1.
            dataset: What the prompts were, for the record.
            steps: How many intervals the table has; 1000 answers shares to a tenth of a percent.

        Source:
            RouteLLM's calibrate_threshold: quantile(1 - share).
        """
        if win_rates.ndim != 1 or win_rates.size == 0 or not np.isfinite(win_rates).all():
            message = f"calibration needs a (n,) array of finite win rates, n >= 1, found shape {win_rates.shape}"
            raise InvalidArgumentError(message)
        shares = np.linspace(0.0, 1.0, steps + 1)
        thresholds = np.quantile(win_rates.astype(np.float64), 1.0 - shares)
        # At the ends a quantile would still send the highest prompt to the strong model, or hold back ties with the
        # lowest.
        thresholds[0], thresholds[-1] = 1.0, 0.0
        rows = zip(np.round(shares, 9).tolist(), np.round(thresholds, 7).tolist(), strict=True)
        return cls(dataset=dataset, prompt_count=int(win_rates.size), table=tuple(rows))

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold, in [0, 1], that sends this share of the calibration prompts to the strong model.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
        """
        share = check_share(strong_share, "strong share")
        shares, thresholds = np.array(self.table).T
        return float(np.interp(share, shares, thresholds))

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        return {"dataset": self.dataset, "prompt_count": self.prompt_count, "table": [list(row) for row in self.table]}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Calibration:
        """Read what to_json wrote. Raises InvalidArgumentError when it is anything else."""
        table = value.get("table")
        if set(value) != {"dataset", "prompt_count", "table"} or not isinstance(table, Sequence):
            message = f"calibration must hold dataset, prompt_count and table, found {sorted(value)}"
            raise InvalidArgumentError(message)
        try:
            rows = tuple((float(share), float(threshold)) for share, threshold in table)
        except (TypeError, ValueError) as error:
            message = "a calibration table is a list of [strong share, threshold] rows"
            raise InvalidArgumentError(message) from error
        count = value["prompt_count"]
        if not isinstance(count, int) or not isinstance(value["dataset"], str):
            message = "calibration: dataset must be a string and prompt_count an integer"
            raise InvalidArgumentError(message)
        return cls(dataset=value["dataset"], prompt_count=count, table=rows)
