"""Whether a newer router takes an older one's place.

Both are judged on the same labels, on which neither was learned. What counts is the mean quality over all strong
shares, which APGR is made of but which is defined for any labels.

The rule: the newer router takes the place unless its mean quality is lower by more than one standard error. It has
learned from more labels, so without evidence it is the better guess, and a proof of a small gain would take more labels
than a user has. Of two routers that are equally good the newer one is refused in one case of six; one that is worse by
one standard error in half of the cases, by two in five cases of six, by three nearly always. One that is better by one
standard error is refused once in forty cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.proving import RESAMPLES, benchmark_of
from routellm_fast.evaluation.bootstrap import bootstrap, quality_draws
from routellm_fast.evaluation.curves import PAPER_SHARES
from routellm_fast.evaluation.metrics import levels_of
from routellm_fast.interval import Interval
from routellm_fast.training.verdict import Outcome, outcome

_NEW: Final = "new"
_OLD: Final = "old"
# How many standard errors the newer router may be worse by.
ALLOWED_ERRORS: Final = 1.0
_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class Replacement:
    """A newer router held against an older one; differences are newer less older.

    Attributes:
        takes_place: Whether the newer router takes the older one's place.
        outcome: "better" or "worse" where the interval of the mean quality says so, else "no difference".
        mean_quality: Difference of the mean score of the answers, averaged over all strong shares.
        standard_error: Of mean_quality, from the resamples.
        strong_share: The share at which both are compared: what the older one sends to the strong model today.
        quality: Difference of the mean score at this share.
        apgr: Difference of APGR (RouteLLM's code); None where the strong model is not better, so that it is undefined.
        prompts: Number of prompts.
    """

    takes_place: bool
    outcome: Outcome
    mean_quality: Interval
    standard_error: float
    strong_share: float
    quality: Interval
    apgr: Interval | None
    prompts: int


def compare(
    untouched: Labels,
    new: NDArray[np.floating[Any]],
    old: NDArray[np.floating[Any]],
    *,
    threshold: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Replacement:
    """Hold a newer router against an older one.

    Args:
        untouched: n labels that neither router was learned from, at least one.
        new: (n,) win rates of the newer router.
        old: (n,) win rates of the older router.
        threshold: The older router's threshold; it says at which strong share both are compared.
        resamples: Number of resamples behind each interval.
        seed: Seed of the resamples.

    Raises:
        InvalidArgumentError: There is no label, or scores have a wrong shape or are not finite.
    """
    benchmark = benchmark_of(untouched)
    scores = {_NEW: new, _OLD: old}
    share = float((np.asarray(old) >= threshold).mean())
    shares = np.array([*PAPER_SHARES, share])
    drawn = quality_draws(scores, benchmark, shares, resamples=resamples, seed=seed)
    difference = drawn[_NEW] - drawn[_OLD]
    mean, at_share = difference[:, :-1].mean(axis=1), difference[:, -1]
    apgr = None
    if benchmark.strong_quality.mean() > benchmark.weak_quality.mean():
        draws = bootstrap(scores, benchmark, resamples=resamples, seed=seed, with_cpt=False)
        found = {name: levels_of(values, benchmark).values()["apgr_routellm"] for name, values in scores.items()}
        lead = draws[_NEW]["apgr_routellm"] - draws[_OLD]["apgr_routellm"]
        apgr = Interval.of(found[_NEW] - found[_OLD], lead, decimals=_DECIMALS)
    mean_quality = Interval.of(float(mean[0]), mean[1:], decimals=_DECIMALS)
    error = float(mean[1:].std())
    return Replacement(
        bool(mean[0] >= -ALLOWED_ERRORS * error),
        outcome(mean_quality),
        mean_quality,
        round(error, _DECIMALS),
        round(share, _DECIMALS),
        Interval.of(float(at_share[0]), at_share[1:], decimals=_DECIMALS),
        apgr,
        len(untouched),
    )
