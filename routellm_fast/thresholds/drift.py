"""Whether recent traffic still looks like the prompts of a calibration.

Two things can change once a router is in use: the distribution of win rates, and the strong share at a threshold. The
first is tested by the Kolmogorov-Smirnov statistic D, which is the largest change of the strong share at any threshold.
The second is tested at each threshold in use, where a test of that threshold alone is sharper.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from routellm_fast.calibration.table import Calibration
from routellm_fast.decision import check_share
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.interval import Interval
from routellm_fast.scoring import check_win_rates

QUANTILE_STEPS: Final = 256
# Used where a calibration has no operating points.
_DEFAULT_SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
_DECIMALS: Final = 6
# Win rates closer than this are one: instruction sets agree within 2e-6, and quantiles are kept to six decimals.
_SAME: Final = 4e-6
# Below this no approximation of ours holds.
_LEAST_REQUESTS: Final = 20
# A log in which a change of the strong share by this much could stay unseen is too short to clear the traffic.
_BLIND_ABOVE: Final = 0.2
_PSI_BINS: Final = 10
_NORMAL_95: Final = 1.959963984540054

Verdict = Literal["matches", "drifted", "too few to tell"]


@dataclass(frozen=True, slots=True)
class PointDrift:
    """A threshold in use, on the calibration prompts and on recent ones.

    Attributes:
        name: Name of the operating point.
        threshold: Its threshold.
        expected_share: Strong share on the calibration prompts.
        strong_share: Strong share on the recent prompts, with its 95 % interval.
        p_value: Probability of a difference at least this large where nothing has changed.
    """

    name: str
    threshold: float
    expected_share: float
    strong_share: Interval
    p_value: float


@dataclass(frozen=True, slots=True)
class Drift:
    """What a comparison of recent traffic with a calibration found.

    Attributes:
        verdict: "drifted" where a test is significant and its difference larger than the tolerance; "too few to tell"
            where nothing is, but a large change could have stayed unseen.
        request_count: Number of recent requests.
        calibration_count: Number of prompts of the calibration.
        statistic: Kolmogorov and Smirnov's D, in [0, 1]: the largest change of the strong share at any threshold. At
            most half a percentage point too small, since a calibration keeps quantiles and not all win rates.
        p_value: Probability of a D at least this large where nothing has changed.
        detectable: The smallest D that this number of requests can show.
        psi: Population stability index over tenths of the calibration prompts; commonly, 0.1 is called some change and
            0.25 a large one.
        points: The thresholds in use, one by one.
        alpha: The largest share of false alarms, over all tests together.
        tolerance: A strong share that changed by no more than this has not drifted, however certain the change is.
    """

    verdict: Verdict
    request_count: int
    calibration_count: int
    statistic: float
    p_value: float
    detectable: float
    psi: float
    points: tuple[PointDrift, ...]
    alpha: float
    tolerance: float

    @property
    def drifted(self) -> bool:
        """Whether the router should be calibrated again."""
        return self.verdict == "drifted"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        points = [asdict(point) | {"strong_share": point.strong_share.to_list()} for point in self.points]
        return {**asdict(self), "points": points}


def win_rate_quantiles(win_rates: NDArray[np.float32]) -> tuple[float, ...]:
    """Return win rates of the sample at equal steps from the smallest to the largest, for comparisons to come."""
    check_win_rates(win_rates)
    steps = min(QUANTILE_STEPS, max(len(win_rates) - 1, 1))
    found = np.quantile(win_rates.astype(np.float64), np.linspace(0.0, 1.0, steps + 1), method="inverted_cdf")
    return tuple(np.round(found, _DECIMALS).tolist())


def check_drift(
    calibration: Calibration, win_rates: NDArray[np.float32], *, alpha: float = 0.01, tolerance: float = 0.02
) -> Drift:
    """Compare the win rates of recent requests with those of a calibration.

    Args:
        calibration: The calibration of the router that gave the win rates.
        win_rates: (n,) win rates, one a request: a prompt that was asked twice counts twice.
        alpha: How often traffic that has not changed may be called drifted, in (0, 1).
        tolerance: Change of a strong share that does not matter, in [0, 1].

    Raises:
        InvalidArgumentError: A win rate is outside [0, 1], there is none, or alpha is not in (0, 1).
        InvalidThresholdError: The tolerance is not in [0, 1].
    """
    check_win_rates(win_rates)
    check_share(tolerance, "tolerance")
    if not 0.0 < alpha < 1.0:
        raise InvalidArgumentError(f"alpha must lie between 0 and 1, found {alpha}")
    recent: NDArray[np.float64] = np.sort(win_rates.astype(np.float64))
    levels, quantiles, slack = _reference(calibration)
    at_most = np.searchsorted(recent, quantiles + _SAME, side="right") / len(recent)
    below = np.searchsorted(recent, quantiles - _SAME, side="left") / len(recent)
    # The calibration's own distribution is at least `levels` at a quantile, and at most that just below it.
    statistic = float(max(0.0, (levels - slack - at_most).max(), (below - levels - slack).max()))
    pooled = math.sqrt(len(recent) * calibration.prompt_count / (len(recent) + calibration.prompt_count))
    p_value = kolmogorov_survival(_stretched(pooled) * statistic)
    points = _points(calibration, win_rates)
    # Half of the false alarms to D, the other half to the points.
    drifted = p_value < alpha / 2.0 and statistic > tolerance
    for point in points:
        change = abs(point.strong_share.value - point.expected_share)
        drifted |= point.p_value < alpha / 2.0 / len(points) and change > tolerance
    detectable = min(1.0, max(tolerance, _critical(alpha / 2.0) / _stretched(pooled)))
    few = min(len(recent), calibration.prompt_count) < _LEAST_REQUESTS
    verdict: Verdict = "drifted" if drifted and not few else "matches"
    if few or (not drifted and detectable > max(_BLIND_ABOVE, tolerance)):
        verdict = "too few to tell"
    return Drift(
        verdict=verdict,
        request_count=len(recent),
        calibration_count=calibration.prompt_count,
        statistic=statistic,
        p_value=p_value,
        detectable=detectable,
        psi=_psi(levels, quantiles, recent),
        points=points,
        alpha=alpha,
        tolerance=tolerance,
    )


def kolmogorov_survival(value: float) -> float:
    """Return the probability that Kolmogorov's statistic, scaled by the root of the sample size, exceeds a value.

    Two series of one function: the first converges quickly for small values, the second for large ones.
    """
    if value <= 0.0:
        return 1.0
    if value < 1.18:
        decay = -(math.pi**2) / (8.0 * value * value)
        terms = sum(math.exp((2 * k - 1) ** 2 * decay) for k in range(1, 5))
        return min(1.0, max(0.0, 1.0 - math.sqrt(2.0 * math.pi) / value * terms))
    terms = sum((-1.0) ** (k - 1) * math.exp(-2.0 * (k * value) ** 2) for k in range(1, 5))
    return min(1.0, max(0.0, 2.0 * terms))


def _stretched(root: float) -> float:
    """Stephens' correction of the root of the sample size: the limit then holds from a handful of requests on."""
    return root + 0.12 + 0.11 / root


def _critical(alpha: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if kolmogorov_survival(middle) > alpha else (low, middle)
    return high


def _reference(calibration: Calibration) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return levels, the quantiles at these levels, and how far the levels may be off."""
    if calibration.win_rate_quantiles:
        quantiles = np.array(calibration.win_rate_quantiles)
        return np.linspace(0.0, 1.0, len(quantiles)), quantiles, 0.0
    # The table's quantiles are interpolated between neighbouring win rates. Its ends, 0 and 1, hold for all traffic.
    shares, thresholds = np.array(calibration.table[::-1]).T
    return 1.0 - shares, thresholds, 1.0 / calibration.prompt_count


def _points(calibration: Calibration, win_rates: NDArray[np.float32]) -> tuple[PointDrift, ...]:
    rates = win_rates.astype(np.float64)
    if calibration.operating_points:
        return tuple(
            _point(name, point.threshold.value, point.strong_share.value, rates, calibration.prompt_count)
            for name, point in calibration.operating_points.items()
        )
    # The table's thresholds are rounded win rates: held against rates as they are, ties would fall on either side.
    rates += _SAME
    thresholds = [calibration.quantile(share) for share in _DEFAULT_SHARES]
    expected = [calibration.share_at(threshold) for threshold in thresholds]
    return tuple(
        _point(f"strong_share={share:g}", threshold, yielded, rates, calibration.prompt_count)
        for share, threshold, yielded in zip(_DEFAULT_SHARES, thresholds, expected, strict=True)
    )


def _point(
    name: str, threshold: float, expected: float, win_rates: NDArray[np.float64], calibration_count: int
) -> PointDrift:
    count = len(win_rates)
    share = float((win_rates >= threshold).mean())
    pooled = (share * count + expected * calibration_count) / (count + calibration_count)
    variance = pooled * (1.0 - pooled) * (1.0 / count + 1.0 / calibration_count)
    rare = min(pooled, 1.0 - pooled) * min(count, calibration_count) < 5.0
    # Too rare for a normal approximation: D has to tell.
    p_value = 1.0 if rare else math.erfc(abs(share - expected) / math.sqrt(2.0 * variance))
    return PointDrift(name, threshold, expected, _wilson(share, count), p_value)


def _wilson(share: float, count: int) -> Interval:
    """Return Wilson's 95 % interval of a share; it has a width even where the share is 0 or 1."""
    squared = _NORMAL_95**2 / count
    centre = (share + squared / 2.0) / (1.0 + squared)
    half = _NORMAL_95 / (1.0 + squared) * math.sqrt(share * (1.0 - share) / count + squared / (4.0 * count))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def _psi(levels: NDArray[np.float64], quantiles: NDArray[np.float64], recent: NDArray[np.float64]) -> float:
    """Return the population stability index; a bin that is empty on one side counts as half a request."""
    wanted = np.linspace(0.0, 1.0, _PSI_BINS + 1)[1:-1]
    edges = np.unique(quantiles[np.searchsorted(levels, wanted).clip(max=len(levels) - 1)])
    expected = np.diff([0.0, *levels[np.searchsorted(quantiles, edges, side="right") - 1], 1.0])
    found = np.diff([0.0, *(np.searchsorted(recent, edges + _SAME, side="right") / len(recent)), 1.0])
    floor = 0.5 / len(recent)
    expected, found = np.maximum(expected, floor), np.maximum(found, floor)
    return float(np.sum((found - expected) * np.log(found / expected)))
