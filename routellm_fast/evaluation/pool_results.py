"""The results of evaluating a pool of models, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from routellm_fast.arrays import brief_repr
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.evaluation.verdict import compared, percent
from routellm_fast.interval import Interval

_HEADS: Final = (
    "who answers",
    "quality",
    "USD per 1,000 prompts",
    "of the best single model's quality",
    "of its cost",
    "dominated by",
)


@dataclass(frozen=True, slots=True)
class CostQuality:
    """Something that answers every prompt: what it scores and costs on average.

    Attributes:
        name: Name of the model, or "oracle".
        quality: Mean score.
        cost_usd_per_1k: US dollars a thousand prompts.
        dominated_by: Name of a single model that scores at least as much and costs at most as much, and is better in
            one of the two; None where there is none. Of several, the one with the highest score.
    """

    name: str
    quality: Interval
    cost_usd_per_1k: Interval
    dominated_by: str | None = None


@dataclass(frozen=True, slots=True)
class PoolPoint:
    """The pool at one tau.

    Attributes:
        tau: See ModelPool.
        quality: Mean score.
        cost_usd_per_1k: US dollars a thousand prompts.
        shuffled_quality: Mean score if the same shares of prompts went to the same models whatever the prompt; what
            lies between the two is what the router knows of prompts.
        shares: Share of prompts by model.
        dominated_by: See CostQuality.
    """

    tau: float
    quality: Interval
    cost_usd_per_1k: Interval
    shuffled_quality: float
    shares: Mapping[str, float]
    dominated_by: str | None = None


@dataclass(frozen=True, slots=True)
class AtCost:
    """What a share of the best single model's cost buys, as shares of its quality.

    Attributes:
        cost_share: The cost, as a share of the best single model's cost.
        quality_share: The pool's quality there, as a share of the best single model's quality.
        mixture_quality_share: The same for the random mixture.
    """

    cost_share: float
    quality_share: Interval
    mixture_quality_share: Interval


@dataclass(frozen=True, slots=True)
class AtQuality:
    """What a share of the best single model's quality costs, as shares of its cost.

    Read off the curves, hence with hindsight: which tau reaches the quality is known only when all is scored.

    Attributes:
        quality_share: The quality, as a share of the best single model's quality.
        cost_share: The pool's cost, as a share of the best single model's cost; 1 where it does not get there for less,
            since the best single model is at hand.
        mixture_cost_share: The same for the random mixture.
    """

    quality_share: float
    cost_share: Interval
    mixture_cost_share: Interval


@dataclass(frozen=True, slots=True)
class PoolResult:
    """A pool on one table of golden labels.

    Every area is a mean quality over all costs from the cheapest single model's to the dearest's. Intervals are 95 %,
    of a bootstrap over prompt groups; gains are differences within each resample. Which single model is best, and
    which costs span the range, is read off all prompts and kept.

    Attributes:
        name: Name of the table.
        prompts: Number of prompts that were routed.
        groups: Number of prompt groups among them.
        dropped: Number of prompts left out because some model of the pool was not run on them.
        costs: "measured": what the table says each answer cost; "priced": each model's cost in the pool.
        best_model: The model that others are held against; None for the best on each prompt.
        models: Every model alone, cheapest by the pool's costs first.
        best_single: Name of the model with the highest mean score, the cheaper of equals.
        cheapest: Name of the model that costs least.
        curve: The pool at each tau, by falling tau, hence rising cost.
        mixture: Names of the models at the corners of the hull of single models: prompts go to one or the other of two
            neighbours at random ("zero router" of RouterBench).
        oracle: The best score on each prompt, from the cheapest model that has it.
        area: Area of the pool's curve as it stands.
        length_area: Area of routing by prompt length: the longest prompts go to the best single model, others to the
            cheapest.
        aiq: Area of the hull of the pool's curve: RouterBench's average improvement in quality. A hull picks the
            luckiest points, so that a long curve of pure chance has a little more than the mixture.
        mixture_aiq: Area of the random mixture.
        area_gain: area - mixture_aiq.
        aiq_gain: aiq - mixture_aiq.
        length_gain: area - length_area.
        at_cost: Shares of cost that are below the cheapest model's cost are left out.
        at_quality: One entry for each of QUALITY_SHARES.
        settings: The seed and the number of resamples.
    """

    name: str
    prompts: int
    groups: int
    dropped: int
    costs: Literal["measured", "priced"]
    best_model: str | None
    models: tuple[CostQuality, ...]
    best_single: str
    cheapest: str
    curve: tuple[PoolPoint, ...]
    mixture: tuple[str, ...]
    oracle: CostQuality
    area: Interval
    length_area: Interval
    aiq: Interval
    mixture_aiq: Interval
    area_gain: Interval
    aiq_gain: Interval
    length_gain: Interval
    at_cost: tuple[AtCost, ...]
    at_quality: tuple[AtQuality, ...]
    settings: Mapping[str, int]

    __repr__ = brief_repr

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object."""
        return asdict(self)


def pool_table(result: PoolResult) -> str:
    """Return `pool_rows` as Markdown."""
    return pool_rows(result).markdown()


def pool_rows(result: PoolResult) -> TextTable:
    """Return a table: the best single model first, the pool at several costs, the other models alone, the oracle.

    A row that one single model dominates names that model in the last column.
    """
    best = next(model for model in result.models if model.name == result.best_single)
    rows: list[tuple[str, ...]] = []

    def add(name: str, quality: Interval, cost: Interval, dominated_by: str | None) -> None:
        quality_share = quality.value / best.quality.value if best.quality.value else 0.0
        cost_share = cost.value / best.cost_usd_per_1k.value if best.cost_usd_per_1k.value else 0.0
        measured = f"{quality.value:.3f} [{quality.low:.3f}, {quality.high:.3f}]"
        shares = percent(quality_share), percent(cost_share)
        rows.append((name, measured, f"{cost.value:.3f}", *shares, dominated_by or ""))

    def add_model(model: CostQuality) -> None:
        marks = [
            *(["best single model"] if model.name == result.best_single else []),
            *(["cheapest"] if model.name == result.cheapest else []),
        ]
        name = f"{model.name} alone" + (f" ({', '.join(marks)})" if marks else "")
        add(name, model.quality, model.cost_usd_per_1k, model.dominated_by)

    add_model(best)
    for point in _spread(result.curve):
        add(f"pool, tau = {point.tau:.4f}", point.quality, point.cost_usd_per_1k, point.dominated_by)
    for model in result.models:
        if model is not best:
            add_model(model)
    add("oracle", result.oracle.quality, result.oracle.cost_usd_per_1k, None)
    return TextTable(_HEADS, tuple(rows), frozenset({_HEADS[0], _HEADS[-1]}))


def pool_verdict(result: PoolResult) -> tuple[str, ...]:
    """Return what the result comes to, the best single model first; one sentence each."""
    best = next(model for model in result.models if model.name == result.best_single)
    gain, dominated = result.area_gain, [point for point in result.curve if point.dominated_by]
    single = (
        f"best single model: {best.name}, quality {best.quality.value:.3f} [{best.quality.low:.3f}, "
        f"{best.quality.high:.3f}], {best.cost_usd_per_1k.value:.3f} USD per 1,000 prompts"
    )
    mixture = (
        f"the pool against a random mixture of its models: {compared(gain)} ({gain.value:+.3f} [{gain.low:+.3f}, "
        f"{gain.high:+.3f}] in mean quality over all costs)"
    )
    beaten = (
        f"dominated: at {len(dominated)} of {len(result.curve)} values of tau one single model alone scores at least "
        "as much as the pool and costs no more"
    )
    return single, mixture, beaten


def _spread(curve: Sequence[PoolPoint], rows: int = 8) -> list[PoolPoint]:
    """Return points at about even steps of the logarithm of cost, ends included."""
    costs = np.log(np.maximum([point.cost_usd_per_1k.value for point in curve], 1e-12))
    wanted = np.linspace(costs[0], costs[-1], rows)
    return [curve[index] for index in sorted({int(np.argmin(np.abs(costs - cost))) for cost in wanted})]
