"""Whether a router is worth having: held against a constant and against prompt length on battles that were held out.

A router is used by the order in which it puts prompts, so the order is what is judged. Sending a prompt to the strong
model gains 1 where that model wins, loses 1 where it loses, and 0.5 of either where a label says so. The *gain* of an
order is how much more of this it collects than random routing, at the same strong share, averaged over all strong
shares. It is the covariance of a prompt's rank, in [0, 1], and what the strong model wins there. A constant, which is
one win rate for all prompts, puts them in no order and gains 0, as random routing does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from routellm_fast.data.split import numbered
from routellm_fast.errors import DataError
from routellm_fast.interval import Interval
from routellm_fast.texts import word_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.data.battles import Battles

Outcome = Literal["better", "no difference", "worse", "too few to tell"]

# Intervals from fewer prompt groups are too short to be believed.
_LEAST_GROUPS: Final = 20
_RESAMPLES: Final = 1000
# Counts of a resample that are held at once.
_CHUNK: Final = 1 << 20
_DECIMALS: Final = 6
# Win rates closer than this are one: instruction sets agree within 2e-6.
_SAME: Final = 4e-6
_WORDS: Final[dict[Outcome, str]] = {
    "better": "better than",
    "no difference": "no different from",
    "worse": "worse than",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a router gains on held-out battles, and how that compares. Gains are shares: 0.03 is 3 battles in 100.

    Attributes:
        battles: How many held-out battles of the pair it was judged on.
        prompt_groups: How many prompt groups they are on.
        gain: The router's gain over random routing, with its 95 % interval over prompt groups.
        length_gain: The gain of sending the longest prompts, by words, to the strong model.
        lead: gain - length_gain, on the same resamples.
        against_constant: "better" where the interval of the gain lies above 0, "worse" where it lies below, else "no
            difference"; "too few to tell" where there are under 20 prompt groups, or all battles ended alike.
        against_length: The same by the interval of the lead.
        loss: Mean log loss of the router's win rates on these battles, in nats.
        constant_loss: That of one win rate for all prompts: the strong model's share of the battles trained on.
    """

    battles: int
    prompt_groups: int
    gain: Interval
    length_gain: Interval
    lead: Interval
    against_constant: Outcome
    against_length: Outcome
    loss: float
    constant_loss: float

    @property
    def line(self) -> str:
        """The verdict in one plain line."""
        if self.against_constant == "too few to tell":
            return (
                f"verdict: too few to tell. {self.battles:,} held-out battles of the pair on {self.prompt_groups:,} "
                "prompt groups do not say whether this router is better than a constant or than prompt length"
            )
        against = f"{_WORDS[self.against_constant]} a constant, {_WORDS[self.against_length]} prompt length"
        return (
            f"verdict: {against}. Over all strong shares, on {self.battles:,} held-out battles, its choices win "
            f"{_points(self.gain)} more in 100 than random ones, to which a constant amounts; those by prompt length "
            f"{100 * self.length_gain.value:.1f} more, the difference is {_points(self.lead)}. Log loss "
            f"{self.loss:.4f} nats, of a constant {self.constant_loss:.4f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the form that metrics hold; intervals are [value, low, high]."""
        return {
            "battles": self.battles,
            "prompt_groups": self.prompt_groups,
            "gain": self.gain.to_list(),
            "length_gain": self.length_gain.to_list(),
            "lead_over_length": self.lead.to_list(),
            "against_constant": self.against_constant,
            "against_length": self.against_length,
            "loss": self.loss,
            "constant_loss": self.constant_loss,
            "line": self.line,
        }


def judged(
    battles: Battles,
    strong_share: NDArray[np.floating[Any]],
    tested: NDArray[np.bool_],
    scores: NDArray[np.floating[Any]],
    *,
    shares: NDArray[np.floating[Any]] | None = None,
    seen: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Verdict:
    """Judge win rates of prompts that the router has not learned from.

    Args:
        battles: n battles on u prompts.
        strong_share: (n,) the strong model's share of the win in each battle; read where `tested` and `seen` are true.
        tested: (n,) which battles are of the pair and held out.
        scores: (u,) the router's win rate of each prompt, or anything that rises with it; finite where it is tested.
        shares: (u,) the share of the win that the router predicts, for its log loss; None: the scores.
        seen: (n,) which battles of the pair were trained on, from which the constant is taken; None: those tested.
        seed: Draws the resamples.
    """
    prompt = battles.prompt[tested]
    won = strong_share[tested].astype(np.float64)
    weight = battles.weight[tested].astype(np.float64)
    constant_of = tested if seen is None or not seen.any() else seen
    constant, loss, constant_loss = 0.5, 0.0, 0.0
    groups, _ = numbered([battles.groups[index] for index in prompt.tolist()])
    none = Interval.exactly(0.0)
    if len(won):
        predicted = (scores if shares is None else shares)[prompt].astype(np.float64)
        constant = float(np.average(strong_share[constant_of], weights=battles.weight[constant_of]))
        loss, constant_loss = (_log_loss(rate, won, weight) for rate in (predicted, np.full(len(won), constant)))
    if groups < _LEAST_GROUPS or np.ptp(won) == 0.0:
        few: Outcome = "too few to tell"
        return Verdict(len(won), groups, none, none, none, few, few, loss, constant_loss)
    words = word_counts(battles.prompts)
    gain, length_gain, lead = compared(battles, strong_share, tested, scores, words, seed=seed)
    return Verdict(len(won), groups, gain, length_gain, lead, outcome(gain), outcome(lead), loss, constant_loss)


def compared(
    battles: Battles,
    strong_share: NDArray[np.floating[Any]],
    tested: NDArray[np.bool_],
    first: NDArray[np.floating[Any]],
    second: NDArray[np.floating[Any]],
    *,
    seed: int = 0,
) -> tuple[Interval, Interval, Interval]:
    """Return the gains of two orders of the prompts, (u,) scores each, and the first less the second.

    See `judged` for the other arguments; at least one battle is tested.
    """
    prompt = battles.prompt[tested]
    groups, group = numbered([battles.groups[index] for index in prompt.tolist()])
    won, weight = (values[tested].astype(np.float64) for values in (strong_share, battles.weight))
    gained = 2.0 * won - 1.0
    columns = [weight, weight * gained]
    for rank in (ranks(scores[prompt].astype(np.float64), weight) for scores in (first, second)):
        columns += [weight * rank, weight * rank * gained]
    sums = np.stack([np.bincount(group, column, groups) for column in columns], axis=1)
    gains = _gains(sums.sum(axis=0)[None])[0]
    draws = np.concatenate([_gains(counts @ sums) for counts in _resampled(groups, seed)])
    return (
        Interval.of(gains[0], draws[:, 0], decimals=_DECIMALS),
        Interval.of(gains[1], draws[:, 1], decimals=_DECIMALS),
        Interval.of(gains[0] - gains[1], draws[:, 0] - draws[:, 1], decimals=_DECIMALS),
    )


def gain(scores: NDArray[np.float64], strong_share: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return the gain of an order of n battles: the scores of their prompts, who won, and their weights, (n,) each."""
    rank, gained, share = ranks(scores, weight), 2.0 * strong_share - 1.0, weight / weight.sum()
    return float(share @ (rank * gained) - (share @ rank) * (share @ gained))


def outcome(found: Interval) -> Outcome:
    """Say what the interval of a difference says: "better", "worse", or "no difference" where it holds 0."""
    return "better" if found.low > 0.0 else "worse" if found.high < 0.0 else "no difference"


def _points(found: Interval) -> str:
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def ranks(scores: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) ranks in [0, 1]: the share of the weight below, and half of the weight of equal scores."""
    _, level = np.unique(scores, return_inverse=True)
    at = np.bincount(level.reshape(-1), weight)
    ranks: NDArray[np.float64] = ((np.cumsum(at) - at / 2.0) / at.sum())[level.reshape(-1)]
    return ranks


def _gains(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (b, 2) weighted covariances of both ranks with what is gained, of (b, 6) sums."""
    total, gained = sums[:, :1], sums[:, 1:2]
    gains: NDArray[np.float64] = sums[:, [3, 5]] / total - sums[:, [2, 4]] / total * (gained / total)
    return gains


def _resampled(groups: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each group is drawn in each resample, (b, groups) at a time."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // groups)
    even = np.full(groups, 1.0 / groups)
    for start in range(0, _RESAMPLES, chunk):
        yield generator.multinomial(groups, even, size=min(chunk, _RESAMPLES - start)).astype(np.float64)


def _log_loss(rate: NDArray[np.float64], won: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    inside = np.clip(rate, 1e-7, 1.0 - 1e-7)
    losses = -(won * np.log(inside) + (1.0 - won) * np.log1p(-inside))
    return round(float(np.average(losses, weights=weight)), _DECIMALS)


def check_tells_apart(win_rates: NDArray[np.floating[Any]]) -> None:
    """Refuse a router that gives all of several prompts one win rate: no threshold divides them. Raises DataError."""
    if len(win_rates) > 1 and np.ptp(win_rates) < _SAME:
        raise DataError(
            f"the win rate is {win_rates[0]:.6g} for all {len(win_rates):,} prompts, so that no threshold could divide "
            "them: the router is not written. Give more or other battles, or other settings"
        )
