"""A router's metrics with what they save, and what answers cost by the price list."""

from __future__ import annotations

import math
from collections.abc import Mapping

from routellm_fast.data.names import known_aliases
from routellm_fast.decision import ModelPair
from routellm_fast.evaluation.results import MetricSet
from routellm_fast.interval import Interval
from routellm_fast.prices import PriceList

# What an answer of the strong and of the weak model costs, in US dollars.
PairCosts = tuple[float, float]


def metric_set(found: Mapping[str, Interval], costs: PairCosts | None) -> MetricSet:
    """Return a router's metrics, by the names of curves.METRICS, with what they save."""

    def saving(cpt: Interval, random_share: float, strong_cost: float, weak_cost: float) -> Interval:
        value, *ends = (
            saving_ratio(share, random_share=random_share, strong_cost=strong_cost, weak_cost=weak_cost)
            for share in (cpt.value, cpt.low, cpt.high)
        )
        # The less is spent, the more is saved: low and high change places, unless the strong model is the cheaper one.
        return Interval(value, *sorted(ends))

    return MetricSet(
        **found,
        saving_cpt50=saving(found["cpt50"], 0.5, 1.0, 0.0),
        saving_cpt80=saving(found["cpt80"], 0.8, 1.0, 0.0),
        dollar_saving_cpt50=None if costs is None else saving(found["cpt50"], 0.5, *costs),
        dollar_saving_cpt80=None if costs is None else saving(found["cpt80"], 0.8, *costs),
    )


def saving_ratio(
    strong_share: float, *, random_share: float, strong_cost: float = 1.0, weak_cost: float = 0.0
) -> float:
    """Return how many times less a router costs than random routing of the same quality.

    Args:
        strong_share: What the router needs for a quality, in (0, 1]: its CPT.
        random_share: What random routing needs for it; in expectation CPT(x) is x.
        strong_cost: What an answer of the strong model costs, in any unit.
        weak_cost: Cost of the weak model. The default, free, gives the ratios of the paper's table 6.
    """
    spent = strong_share * strong_cost + (1.0 - strong_share) * weak_cost
    return (random_share * strong_cost + (1.0 - random_share) * weak_cost) / spent if spent > 0.0 else math.inf


def listed_costs(pair: ModelPair, prices: PriceList) -> PairCosts | None:
    """Return what an answer of either model costs by the price list; None where one has no price, or both are free."""
    strong, weak = (prices.usd_per_1k(model, known_aliases()) for model in pair)
    if strong is None or weak is None or max(strong, weak) == 0.0:
        return None
    return strong / 1000.0, weak / 1000.0
