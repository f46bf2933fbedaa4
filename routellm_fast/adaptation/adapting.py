"""From labels to a router and its proof: learn, plan the strong share, calibrate, measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.card import adapted_card
from routellm_fast.adaptation.goal import Goal, Planned, planned
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.learning import Learning, check_sides, learn
from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, Choice, Proof, prove
from routellm_fast.adaptation.recipes import DEFAULT, check_names, checked_prior
from routellm_fast.adaptation.saving import Monthly, monthly, priced
from routellm_fast.arrays import brief_repr
from routellm_fast.calibration.operating_points import Target
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.prices import PairPrices
from routellm_fast.routers.base import Router
from routellm_fast.scoring import OnStep
from routellm_fast.thresholds.command import calibrate
from routellm_fast.thresholds.token_counts import token_counts
from routellm_fast.thresholds.traffic import Traffic


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """What to make of labels.

    Attributes:
        prior: The router to start from; see learning.learn.
        goal: What the router should reach.
        recipes: Names of recipes to try.
        prices: What both models charge, where labels have no costs; None for no money.
        requests_a_month: The user's volume; None where it is not known.
        labelling_usd: What the labels cost; None where it is not known.
        created: Date for the record, ISO 8601.
        seed: Seed of all that is drawn.
        sources: JSON-able: where the labels come from, for the record.
    """

    prior: Router
    goal: Goal = field(default_factory=Goal)
    recipes: Sequence[str] = (DEFAULT,)
    prices: PairPrices | None = None
    requests_a_month: float | None = None
    labelling_usd: float | None = None
    created: str = ""
    seed: int = 0
    sources: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief_repr

    def check(self, *, has_costs: bool) -> None:
        """Refuse what would only fail when labels are there and paid for.

        Args:
            has_costs: Whether labels will have what their answers cost.

        Raises:
            InvalidArgumentError: There is no recipe of a name, nothing can be learned on the prior, or something asks
                for money and nothing says what answers cost.
            MissingExtraError: A recipe needs a library that is not installed.
        """
        check_names(self.recipes)
        checked_prior(self.prior)
        if has_costs or self.prices is not None:
            return
        if self.goal.kind == "usd_per_1k" or self.requests_a_month is not None:
            what = "a goal of cost" if self.goal.kind == "usd_per_1k" else "what a month costs"
            raise InvalidArgumentError(
                f"{what} needs what the answers of both models cost: give --price strong=IN/OUT and --price "
                "weak=IN/OUT (and, where nobody is asked, --output-tokens N), or costs with all labels"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A router that was learned from labels, and what it is worth.

    Attributes:
        router: The router, calibrated on the traffic.
        threshold: Win rate from which the strong model is chosen, for the goal.
        learning: What came of each recipe.
        plan: The strong share that was planned for the goal, by labels that were learned from.
        proof: What was found on the untouched labels.
        monthly: What a month costs; None where costs or the volume are not known.
    """

    router: Router
    threshold: float
    learning: Learning
    plan: Planned
    proof: Proof
    monthly: Monthly | None

    __repr__ = brief_repr


def adapt(
    labels: Labels,
    is_untouched: NDArray[np.bool_],
    traffic: Traffic,
    wanted: Wanted,
    *,
    dataset: str,
    on_progress: OnStep | None = None,
) -> Adapted:
    """Learn a router from labels, choose its threshold, and prove it on the labels that were not touched.

    Args:
        labels: n labels.
        is_untouched: (n,) which of them only prove.
        traffic: The prompts that the router is calibrated on.
        wanted: What to make of them.
        dataset: Name of the traffic, for the record.
        on_progress: Told of what is done.

    Raises:
        DataError: There are too few labels on one side, or all win rates are equal.
        InvalidArgumentError: The prior is of a kind that nothing is learned on, or the goal is a cost without prices.
    """
    check_sides(labels.groups, is_untouched)
    tell = on_progress or (lambda *_: None)
    labels = _priced(labels, wanted)
    learned_from, untouched = labels.select(~is_untouched), labels.select(is_untouched)
    learning = learn(
        learned_from,
        wanted.prior,
        recipes=wanted.recipes,
        seed=wanted.seed,
        on_progress=lambda progress: tell(progress.name, progress.done, progress.total),
    )
    scores = learning.chosen.scores
    assert scores is not None  # noqa: S101 - the chosen recipe has learned
    plan = planned(wanted.goal, learned_from, scores)
    uncalibrated = learning.router()
    found = calibrate(
        uncalibrated,
        traffic,
        dataset=dataset,
        targets=(Target("strong_share", round(plan.strong_share, 6)),),
        prices=wanted.prices,
        created=wanted.created,
        seed=wanted.seed,
        on_progress=on_progress,
    )
    (point,) = found.calibration.operating_points.values()
    # Nobody to the strong model is a threshold that no win rate reaches, and everybody one that all do.
    threshold = {0.0: 1.0, 1.0: 0.0}.get(plan.strong_share, point.threshold.value)
    before = learning.before.fitted
    assert before is not None  # noqa: S101 - it learns nothing, so it cannot fail
    proof = prove(
        untouched,
        {
            ADAPTED: uncalibrated.win_rates(untouched.prompts),
            SHIPPED: before.router().win_rates(untouched.prompts),
        },
        [Choice(wanted.goal.text, threshold, wanted.goal.kept_quality)],
        all_labels=len(labels),
        seed=wanted.seed,
        on_progress=on_progress,
    )
    money = proof.points[0].money
    a_month = None
    if money is not None and wanted.requests_a_month is not None:
        a_month = monthly(money, wanted.requests_a_month, wanted.labelling_usd)
    router = learning.router(
        calibration=found.calibration,
        provenance=_provenance(labels, learning, plan, threshold, wanted),
        model_card=adapted_card(proof, learning, created=wanted.created, monthly=a_month),
    )
    return Adapted(router, threshold, learning, plan, proof, a_month)


def _priced(labels: Labels, wanted: Wanted) -> Labels:
    prices = wanted.prices
    if prices is None or labels.costs_usd is not None:
        return labels
    embedder = wanted.prior.embedder if wanted.prior.has_embedder else None
    return priced(labels, prices, token_counts(embedder, labels.prompts) if prices.counts_prompts else None)


def _provenance(labels: Labels, learning: Learning, plan: Planned, threshold: float, wanted: Wanted) -> dict[str, Any]:
    """Return what router.json says of how the router came about; it holds no prompt."""
    return {
        "source": "routellm-fast adapt",
        "created": wanted.created,
        "labels": len(labels),
        "recipe": learning.chosen.name,
        "recipes": [candidate.to_json() for candidate in learning.candidates],
        "goal": {"kind": wanted.goal.kind, "value": wanted.goal.value},
        "planned_strong_share": plan.strong_share,
        "threshold": threshold,
        "seed": wanted.seed,
        "prior": dict(wanted.prior.provenance).get("source", wanted.prior.kind),
        **dict(wanted.sources),
    }
