"""Fits of probability maps: how well a win rate tells the probability that the strong model's answer is the better one.

A win rate orders prompts; whether 0.7 of those at 0.7 are won is another matter. A map is fitted on labelled prompts,
where a tie counts as half a win, and it never falls, so that it changes no order. What it is worth is measured on
prompt groups that it was not fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import brief_repr
from routellm_fast.calibration.probability import (
    METHODS,
    Floats,
    IsotonicMap,
    Method,
    PlattMap,
    ProbabilityMap,
    clipped,
    logit,
    sigmoid,
)
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.interval import Interval
from routellm_fast.scoring import check_win_rates
from routellm_fast.thresholds.rising import rising_steps

_FOLDS: Final = 5
_LEAST_GROUPS: Final = 20
_ECE_BINS: Final = 10
_FEW_LEVELS: Final = 5
_RESAMPLES: Final = 500


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Labelled prompts.

    Attributes:
        win_rates: (n,) win rates of the router.
        targets: (n,) 1 where the strong model's answer was better, 0 where the weak model's was, 0.5 for a tie.
        groups: n names of prompt groups; a group is on one side of a split as a whole.
        weights: (n,) weights above 0; None weighs all alike.
    """

    win_rates: NDArray[np.float32]
    targets: Floats
    groups: Sequence[str]
    weights: Floats | None = None

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        check_win_rates(self.win_rates)
        shape = self.win_rates.shape
        if self.targets.shape != shape or len(self.groups) != shape[0]:
            raise InvalidArgumentError(f"expected one target and one group for each of {shape[0]} win rates")
        if not ((self.targets >= 0.0) & (self.targets <= 1.0)).all():
            raise InvalidArgumentError("targets lie in [0, 1]")
        if self.weights is None:
            object.__setattr__(self, "weights", np.ones(shape))
        elif self.weights.shape != shape or not (np.isfinite(self.weights) & (self.weights > 0.0)).all():
            raise InvalidArgumentError("weights are finite numbers above 0, one a win rate")

    def taken(self, rows: NDArray[Any]) -> tuple[NDArray[np.float32], Floats, Floats]:
        """Return win rates, targets and weights of some rows."""
        assert self.weights is not None  # noqa: S101  (set above)
        return self.win_rates[rows], self.targets[rows], self.weights[rows]


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far probabilities can be taken at their word, on rows that they were not fitted on.

    Attributes:
        log_loss: Mean cross entropy with the targets, in nats.
        brier: Mean squared distance from them.
        ece: Expected calibration error over ten bins of equal mass: mean distance between the mean probability and the
            mean target of a bin. Its interval is over resamples of prompt groups. Even perfect probabilities have one
            above 0, by the noise of the bins.
        ece_debiased: The same, with each bin's noise taken off its squared distance.
    """

    log_loss: float
    brier: float
    ece: Interval
    ece_debiased: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {**asdict(self), "ece": self.ece.to_list()}


@dataclass(frozen=True, slots=True)
class ProbabilityFit:
    """A map and what it is worth.

    Attributes:
        map: The map, fitted on all rows.
        method: How it was fitted.
        rows: Number of labelled rows.
        groups: Number of prompt groups.
        before: Reliability of the win rates themselves.
        after: Reliability of maps that were fitted in the same way on four fifths of the groups, each measured on the
            other fifth.
        log_loss_gain: Log loss before less log loss after, with its interval over prompt groups.
        refusal: Why the map must not be used; "" where it may be used.
    """

    map: ProbabilityMap
    method: Method
    rows: int
    groups: int
    before: Reliability
    after: Reliability
    log_loss_gain: Interval
    refusal: str

    @property
    def has_few_levels(self) -> bool:
        """Whether the map makes most prompts alike."""
        return self.map.levels is not None and self.map.levels < _FEW_LEVELS

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able form, the map's own apart."""
        record = {key: value for key, value in asdict(self).items() if key != "map"}
        return {
            **record,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "log_loss_gain": self.log_loss_gain.to_list(),
            "levels": self.map.levels,
        }


def fit_probability(outcomes: Outcomes, method: Method, *, seed: int = 0) -> ProbabilityFit:
    """Fit a map on labelled prompts and measure it on prompt groups held out.

    Args:
        outcomes: The labelled rows.
        method: "platt" needs few rows and is smooth; "isotonic" takes any rising shape and needs about a thousand.
        seed: Draws folds and resamples.

    Raises:
        DataError: There are too few prompt groups, or all outcomes are alike.
        InvalidArgumentError: No such method.
    """
    if method not in METHODS:
        raise InvalidArgumentError(f"a probability map is fitted by one of {', '.join(METHODS)}, found {method!r}")
    fit = _fit_platt if method == "platt" else _fit_isotonic
    names, group = np.unique(np.array(outcomes.groups, dtype=object).astype(str), return_inverse=True)
    group = group.reshape(-1)
    if len(names) < _LEAST_GROUPS:
        raise DataError(
            f"probabilities need outcomes on {_LEAST_GROUPS} different prompts at least, found {len(names)}"
        )
    if np.ptp(outcomes.targets) == 0.0:
        raise DataError(
            f"all {len(group)} outcomes are {outcomes.targets[0]:g}: probabilities cannot be fitted on them"
        )
    fold = (np.random.default_rng([seed, 0]).permutation(len(names)) % _FOLDS)[group]
    win_rates, targets, weights = outcomes.taken(np.arange(len(group)))
    held_out = np.empty(len(group))
    for number in range(_FOLDS):
        inside = fold == number
        held_out[inside] = fit(*outcomes.taken(~inside))(win_rates[inside])
    raw = win_rates.astype(np.float64)
    gain = _loss(raw, targets) - _loss(held_out, targets)
    before, after = (
        _reliability(probabilities, targets, weights, group, len(names), seed) for probabilities in (raw, held_out)
    )
    log_loss_gain = _mean_over_groups(gain, weights, group, len(names), seed)
    found = fit(win_rates, targets, weights)
    return ProbabilityFit(
        map=found,
        method=method,
        rows=len(group),
        groups=len(names),
        before=before,
        after=after,
        log_loss_gain=log_loss_gain,
        refusal=_refusal(found, before, after),
    )


def _refusal(found: ProbabilityMap, before: Reliability, after: Reliability) -> str:
    if found.levels == 1:
        return "the map is flat: on these prompts a higher win rate goes with no better outcome"
    if not after.log_loss < before.log_loss:
        return (
            f"the log loss on held-out prompt groups would rise from {before.log_loss:.5f} to {after.log_loss:.5f}: "
            "the win rates as they are, are better probabilities"
        )
    return ""


def _fit_platt(win_rates: NDArray[np.float32], targets: Floats, weights: Floats) -> PlattMap:
    """Fit by Newton's method; targets are moved a little from 0 and 1, as Platt does, so that a maximum exists."""
    x = logit(win_rates)
    y = (targets * len(targets) + 1.0) / (len(targets) + 2.0)
    mean = float(np.average(y, weights=weights))
    flat = PlattMap(0.0, float(np.log(mean / (1.0 - mean))))
    if np.ptp(x) < 1e-9:  # one win rate, but for its rounding
        return flat
    # Centred and scaled, the two unknowns hardly interact.
    centre = float(np.average(x, weights=weights))
    spread = float(np.sqrt(np.average((x - centre) ** 2, weights=weights)))
    design = np.stack([(x - centre) / spread, np.ones_like(x)], axis=1)
    solution = np.array([0.0, flat.intercept])
    for _ in range(100):
        p = sigmoid(design @ solution)
        gradient = design.T @ (weights * (p - y))
        curvature = (design * (weights * np.maximum(p * (1.0 - p), 1e-12))[:, None]).T @ design
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        solution = solution - step
        if np.abs(step).max() < 1e-12:
            break
    slope = float(solution[0]) / spread
    return PlattMap(slope, float(solution[1]) - slope * centre) if slope > 0.0 else flat


def _fit_isotonic(win_rates: NDArray[np.float32], targets: Floats, weights: Floats) -> IsotonicMap:
    """Fit a rising function; every step keeps a distance from 0 and 1, which few rows cannot prove."""
    edge = 1.0 / (len(targets) + 2.0)
    knots: dict[float, float] = {}
    for step in rising_steps(win_rates.astype(np.float64), targets, weights):
        knots[round(step.level, 9)] = round(min(max(step.mean, edge), 1.0 - edge), 9)
    if len(knots) == 1:
        ((rate, probability),) = knots.items()
        # A line needs two ends.
        knots = {0.0: probability, rate: probability, 1.0: probability}
    return IsotonicMap(tuple(knots), tuple(knots.values()))


def _reliability(
    probabilities: Floats, targets: Floats, weights: Floats, group: NDArray[np.int64], groups: int, seed: int
) -> Reliability:
    error, debiased = _ece(probabilities, targets, weights)
    generator = np.random.default_rng([seed, 1])
    draws = np.empty(_RESAMPLES)
    for draw in range(_RESAMPLES):
        counts = np.bincount(generator.integers(0, groups, groups), minlength=groups)[group]
        kept = counts > 0
        draws[draw] = _ece(probabilities[kept], targets[kept], weights[kept] * counts[kept])[0]
    return Reliability(
        log_loss=float(np.average(_loss(probabilities, targets), weights=weights)),
        brier=float(np.average((probabilities - targets) ** 2, weights=weights)),
        ece=Interval.of(error, draws),
        ece_debiased=debiased,
    )


def _ece(probabilities: Floats, targets: Floats, weights: Floats) -> tuple[float, float]:
    """Return the ECE over bins of equal mass, and the same less the noise of the bins."""
    levels, level = np.unique(probabilities, return_inverse=True)
    level = level.reshape(-1)
    mass = np.bincount(level, weights=weights, minlength=len(levels))
    middle = (np.cumsum(mass) - mass / 2.0) / mass.sum()
    bins = np.minimum((middle * _ECE_BINS).astype(int), _ECE_BINS - 1)[level]

    def sums(values: Floats) -> Floats:
        return np.asarray(np.bincount(bins, weights=values, minlength=_ECE_BINS), dtype=np.float64)

    amount, rows = sums(weights), np.bincount(bins, minlength=_ECE_BINS)
    used = amount > 0.0
    share = amount[used] / amount.sum()
    residual = targets - probabilities
    gap = sums(weights * residual)[used] / amount[used]
    variance = sums(weights * residual**2)[used] / amount[used] - gap**2
    noise = variance / np.maximum(rows[used] - 1, 1)
    return float(share @ np.abs(gap)), float(share @ np.sqrt(np.maximum(gap**2 - noise, 0.0)))


def _mean_over_groups(values: Floats, weights: Floats, group: NDArray[np.int64], groups: int, seed: int) -> Interval:
    sums = np.bincount(group, weights=weights * values, minlength=groups)
    masses = np.bincount(group, weights=weights, minlength=groups)
    generator = np.random.default_rng([seed, 2])
    drawn = (generator.integers(0, groups, groups) for _ in range(_RESAMPLES))
    draws = np.array([sums[rows].sum() / masses[rows].sum() for rows in drawn])
    return Interval.of(sums.sum() / masses.sum(), draws)


def _loss(probabilities: Floats, targets: Floats) -> Floats:
    p = clipped(probabilities)
    return -(targets * np.log(p) + (1.0 - targets) * np.log1p(-p))


def choose(fits: Sequence[ProbabilityFit]) -> ProbabilityFit:
    """Return the fit that may be used and makes the least held-out loss; where none may be used, the least of all.

    A map of few levels makes prompts alike that the router tells apart: it is taken where no other may be used.
    """

    def rank(fit: ProbabilityFit) -> tuple[bool, bool, float]:
        return bool(fit.refusal), fit.has_few_levels, fit.after.log_loss

    return min(fits, key=rank)
