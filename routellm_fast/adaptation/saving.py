"""What routing saves in a month, and after how long it has paid for its labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast import strict
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.proving import Money
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.interval import Interval
from routellm_fast.prices import PairPrices

_DAYS_A_MONTH: Final = 365.25 / 12.0
_SECONDS_A_DAY: Final = 86_400.0
_MAX_REQUESTS: Final = 1e15
_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class Monthly:
    """What routing costs and saves in a month, in US dollars.

    Attributes:
        requests: Requests a month.
        strong_usd: What they cost if the strong model answers everything.
        routed_usd: What they cost if the router chooses.
        saved_usd: strong_usd less routed_usd.
        beyond_mixture_usd: What a fixed mixture of the same quality costs more than the router; None where there is no
            such mixture.
        labelling_usd: What the labels cost; None where that is not known.
        paid_after_requests: How many requests have earned that back; None where it is not known or never happens.
        paid_after_days: The same in days.
        soonest_paid_after_days: The same at the upper end of what a request saves.
        latest_paid_after_days: The same at the lower end; None where that is no saving.
    """

    requests: float
    strong_usd: Interval
    routed_usd: Interval
    saved_usd: Interval
    beyond_mixture_usd: Interval | None
    labelling_usd: float | None = None
    paid_after_requests: float | None = None
    paid_after_days: float | None = None
    soonest_paid_after_days: float | None = None
    latest_paid_after_days: float | None = None


def priced(labels: Labels, prices: PairPrices | None, input_tokens: NDArray[np.int64] | None = None) -> Labels:
    """Return labels with what their answers cost: as measured where that is known, else by prices.

    Args:
        labels: n labels.
        prices: What the models charge; None leaves the labels as they are.
        input_tokens: (n,) tokens of each prompt; needed where prices count each prompt's.

    Raises:
        InvalidArgumentError: Prices need the tokens of each prompt, and these are not given or do not fit.
    """
    if prices is None or labels.costs_usd is not None:
        return labels
    if prices.counts_prompts and input_tokens is None:
        raise InvalidArgumentError(
            "these prices count the tokens of each prompt: give these, or the mean number of input tokens"
        )
    tokens = np.zeros(len(labels), dtype=np.int64) if input_tokens is None else input_tokens
    if tokens.shape != (len(labels),):
        raise InvalidArgumentError(f"expected tokens of {len(labels):,} prompts, found shape {tokens.shape}")
    return replace(labels, costs_usd=np.stack(prices.costs_usd(tokens), axis=1))


def requests_a_month(requests: int, seconds: float) -> float:
    """Return how many requests a month a log amounts to.

    Args:
        requests: Number of requests in the log.
        seconds: Time from the first to the last.

    Raises:
        InvalidArgumentError: The log has fewer than two requests, or no time passes in it.
    """
    if requests < 2 or not 0.0 < seconds < np.inf:
        raise InvalidArgumentError(
            f"a log of {requests:,} requests within {seconds:g} seconds does not say how many come in a month: give "
            "their number"
        )
    # Between n requests there are n - 1 spans.
    return (requests - 1) * _DAYS_A_MONTH * _SECONDS_A_DAY / seconds


def monthly(money: Money, requests: float, labelling_usd: float | None = None) -> Monthly:
    """Return what a month costs, and when the labels are paid.

    Args:
        money: What a request costs, from a proof.
        requests: Requests a month.
        labelling_usd: What the labels cost: answers of both models, and the judge; None where that is not known.

    Raises:
        InvalidArgumentError: A number is negative or not finite, or there are no requests.
    """
    requests = strict.number(requests, "the number of requests a month", 0.0, _MAX_REQUESTS)
    if requests == 0.0:
        raise InvalidArgumentError("without requests there is nothing to save: give the number of requests a month")

    def times(interval: Interval) -> Interval:
        return Interval(*(round(requests * part, _DECIMALS) for part in interval.to_list()))

    found = Monthly(
        requests,
        times(money.strong_usd),
        times(money.routed_usd),
        times(money.saved_usd),
        None if money.beyond_mixture_usd is None else times(money.beyond_mixture_usd),
    )
    if labelling_usd is None:
        return found
    cost = strict.number(labelling_usd, "what the labels cost", 0.0, np.inf)
    by_value, by_low, by_high = (_requests_for(cost, saved) for saved in money.saved_usd.to_list())

    def days(count: float | None) -> float | None:
        return None if count is None else round(count / requests * _DAYS_A_MONTH, _DECIMALS)

    return replace(
        found,
        labelling_usd=cost,
        paid_after_requests=by_value,
        paid_after_days=days(by_value),
        soonest_paid_after_days=days(by_high),
        latest_paid_after_days=days(by_low),
    )


def _requests_for(cost_usd: float, saved_usd: float) -> float | None:
    return float(np.ceil(cost_usd / saved_usd)) if saved_usd > 0.0 else None
