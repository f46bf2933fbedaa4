"""The calibration that a router carries: a table from a strong share to the threshold that yields it, and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import brief_repr
from routellm_fast.decision import check_share
from routellm_fast.errors import InvalidArgumentError, UnreachableTargetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.calibration.operating_points import OperatingPoint
    from routellm_fast.calibration.probability import ProbabilityMap
    from routellm_fast.prices import PairPrices

# In router.json only where a calibration has them: directories without stay as they were, to the byte.
_OPTIONAL: Final = ("created", "operating_points", "prices", "probability", "prompt_digest", "win_rate_quantiles")
# Counts beyond it are no numbers that float64 holds.
_MOST_PROMPTS: Final = 1 << 53
_REQUIRED: Final = ("dataset", "prompt_count", "table")
# A strong share that misses the one asked for by no more counts as reached.
_MISSED_BY: Final = 0.02
# The thresholds of a table are multiples of 1e-7.
_STEPS_OF_THRESHOLDS: Final = 1e7


@dataclass(frozen=True, slots=True)
class Calibration:
    """Quantiles of a router's win rates over prompts that look like its traffic.

    Attributes:
        dataset: Name of the prompts.
        prompt_count: Number of prompts, each counted as often as it was asked.
        table: (strong share, threshold) rows; shares rise strictly from 0 to 1, thresholds never rise.
        created: Date of the calibration; "" where unknown.
        prompt_digest: Digest of the prompts, "sha256:<hex>"; see `Traffic.digest`. "" where unknown.
        operating_points: The thresholds that the user asked for, by the name of the target, e.g. "pgr=0.8".
        prices: The prices behind the costs of operating points; None without costs.
        win_rate_quantiles: Win rates at equal steps from the smallest to the largest, with which recent traffic is
            compared; () where only the table is known.
        probability: Map from win rates to probabilities; None where none was fitted.
    """

    dataset: str
    prompt_count: int
    table: tuple[tuple[float, float], ...]
    created: str = ""
    prompt_digest: str = ""
    operating_points: Mapping[str, OperatingPoint] = field(default_factory=dict, hash=False)
    prices: PairPrices | None = None
    win_rate_quantiles: tuple[float, ...] = ()
    probability: ProbabilityMap | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        """Refuse a table that cannot be read as a falling curve over [0, 1]."""
        if not 1 <= self.prompt_count <= _MOST_PROMPTS:
            raise InvalidArgumentError(
                f"a calibration rests on one prompt at least and 2^53 at most, found {self.prompt_count}"
            )
        shares = [share for share, _ in self.table]
        thresholds = [threshold for _, threshold in self.table]
        if len(self.table) < 2 or shares[0] != 0.0 or shares[-1] != 1.0:
            raise InvalidArgumentError("a calibration table needs rows from strong share 0 to strong share 1")
        rising = all(a < b for a, b in pairwise(shares))
        falling = all(a >= b for a, b in pairwise(thresholds))
        if not rising or not falling or not all(0.0 <= t <= 1.0 for t in thresholds):
            raise InvalidArgumentError("in a calibration table shares rise, thresholds fall, and both lie in [0, 1]")

    @classmethod
    def from_win_rates(cls, win_rates: NDArray[np.float32], *, dataset: str, steps: int = 1000) -> Calibration:
        """Calibrate on the win rates of a sample of prompts.

        Args:
            win_rates: (n,) win rates in [0, 1], n >= 1.
            dataset: Name of the prompts, for the record.
            steps: How many intervals the table has; 1000 answers shares to a tenth of a percent.

        Source:
            RouteLLM's calibrate_threshold: quantile(1 - share).
        """
        if win_rates.ndim != 1 or win_rates.size == 0 or not np.isfinite(win_rates).all():
            raise InvalidArgumentError(
                f"calibration needs a (n,) array of finite win rates, n >= 1, found shape {win_rates.shape}"
            )
        shares = np.linspace(0.0, 1.0, steps + 1)
        thresholds = np.quantile(win_rates.astype(np.float64), 1.0 - shares)
        # At the ends a quantile would still send the highest prompt to the strong model, or hold back ties with the
        # lowest.
        thresholds[0], thresholds[-1] = 1.0, 0.0
        # Rounded down: prompts that are tied at a threshold then all reach it.
        thresholds = np.floor(thresholds * _STEPS_OF_THRESHOLDS) / _STEPS_OF_THRESHOLDS
        rows = zip(np.round(shares, 9).tolist(), np.round(thresholds, 7).tolist(), strict=True)
        return cls(dataset=dataset, prompt_count=int(win_rates.size), table=tuple(rows))

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold, in [0, 1], that sends this share of the calibration prompts to the strong model.

        Prompts with one and the same win rate go to one model together, so where many have, not every share can be
        reached. A share that is missed by 0.02 at most counts as reached.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
            UnreachableTargetError: No threshold yields this share; the text names the nearest one that can be reached.
        """
        threshold = self.quantile(strong_share)
        share, reached = float(strong_share), self.share_at(threshold)
        near = [(reached, threshold), *self._last_above(threshold)]
        near.sort(key=lambda row: abs(row[0] - share))
        if abs(near[0][0] - share) <= max(_MISSED_BY, 1.0 / self.prompt_count):
            return near[0][1]
        others = f"; on the other side {near[1][0]:.4g}, at threshold {near[1][1]:.7g}" if near[1:] else ""
        raise UnreachableTargetError(
            f"no threshold sends a share of {share:g} of the calibration's prompts to the strong model, since many of "
            f"them have the same win rate, {threshold:.7g}. Nearest is a share of {near[0][0]:.4g}, at threshold "
            f"{near[0][1]:.7g}{others}"
        )

    def quantile(self, strong_share: float) -> float:
        """Return the win rate, in [0, 1], above which this share of the calibration prompts lies.

        It is the threshold for that share, unless many prompts have this very win rate; see threshold_for.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
        """
        share = check_share(strong_share, "strong share")
        shares, thresholds = np.array(self.table).T
        return float(np.interp(share, shares, thresholds))

    def _last_above(self, threshold: float) -> list[tuple[float, float]]:
        """Return the last row of the table with a threshold above this one, if there is one."""
        return [row for row in self.table if row[1] > threshold][-1:]

    def share_at(self, threshold: float) -> float:
        """Return the share of the calibration prompts whose win rate is at least the threshold, as the table knows it.

        Raises:
            InvalidThresholdError: The threshold is outside [0, 1] or NaN.
        """
        limit = check_share(threshold, "threshold")
        shares, thresholds = np.array(self.table).T
        # Equal thresholds are tied prompts, which all reach it.
        reaching = int(np.searchsorted(-thresholds, -limit, side="right"))
        if reaching == 0 or reaching == len(shares) or thresholds[reaching - 1] == limit:
            return float(shares[max(reaching - 1, 0)])
        pair = slice(reaching - 1, reaching + 1)
        return float(np.interp(-limit, -thresholds[pair], shares[pair]))

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        optional: dict[str, object] = {
            "created": self.created,
            "prompt_digest": self.prompt_digest,
            "operating_points": {name: point.to_json() for name, point in self.operating_points.items()},
            "prices": self.prices and self.prices.to_json(),
            "win_rate_quantiles": list(self.win_rate_quantiles),
            "probability": self.probability and self.probability.to_json(),
        }
        return {
            "dataset": self.dataset,
            "prompt_count": self.prompt_count,
            "table": [list(row) for row in self.table],
            **{key: value for key, value in optional.items() if value},
        }

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Calibration:
        """Read what to_json wrote. Raises InvalidArgumentError when it is anything else."""
        table = value.get("table")
        if not set(_REQUIRED) <= set(value) <= {*_REQUIRED, *_OPTIONAL} or not isinstance(table, Sequence):
            raise InvalidArgumentError(
                f"calibration must hold {', '.join(_REQUIRED)} and optionally {', '.join(_OPTIONAL)}, "
                f"found {sorted(value)}"
            )
        try:
            rows = tuple((float(share), float(threshold)) for share, threshold in table)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgumentError("a calibration table is a list of [strong share, threshold] rows") from error
        count = value["prompt_count"]
        if type(count) is not int or not isinstance(value["dataset"], str):
            raise InvalidArgumentError("calibration: dataset must be a string and prompt_count an integer")
        return cls(dataset=value["dataset"], prompt_count=count, table=rows, **_optional_from_json(value))


def _optional_from_json(value: Mapping[str, Any]) -> dict[str, Any]:
    if not set(_OPTIONAL) & set(value):
        return {}
    # Imported here, since most routers have none of them.
    from routellm_fast import prices, strict
    from routellm_fast.calibration import operating_points, probability

    readers: Mapping[str, Any] = {
        "created": lambda entry: strict.text(entry, "calibration.created"),
        "prompt_digest": lambda entry: strict.text(entry, "calibration.prompt_digest"),
        "operating_points": operating_points.points_from_json,
        "prices": lambda entry: prices.PairPrices.from_json(entry, "calibration.prices"),
        "win_rate_quantiles": lambda entry: strict.rising(entry, "calibration.win_rate_quantiles"),
        "probability": probability.map_from_json,
    }
    return {key: readers[key](value[key]) for key in _OPTIONAL if key in value}
