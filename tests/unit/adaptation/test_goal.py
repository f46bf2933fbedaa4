from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError, ModelPair
from routellm_fast.adaptation.goal import Goal, planned
from routellm_fast.adaptation.labels import Labels


def labels(strong: np.ndarray, weak: np.ndarray, costs: np.ndarray | None = None) -> Labels:
    names = tuple(str(row) for row in range(len(strong)))
    return Labels(ModelPair("s", "w"), names, names, strong, weak, costs)


def halves(count: int = 100) -> tuple[Labels, np.ndarray]:
    """The strong model is right everywhere, the weak one on the half with the low scores."""
    scores = np.linspace(1.0, 0.0, count)
    return labels(np.ones(count), (scores < 0.5).astype(float)), scores


def test_quality_is_kept_at_the_least_strong_share() -> None:
    found, scores = halves()
    assert planned(Goal("quality", 1.0), found, scores).strong_share == 0.5
    half = planned(Goal("quality", 0.75), found, scores)
    assert (half.strong_share, half.quality, half.is_reached) == (0.25, 0.75, True)
    assert planned(Goal("quality", 0.4), found, scores).strong_share == 0.0


def test_noise_plans_what_a_fixed_mixture_would_need() -> None:
    """The best of many shares by the measured gains would be optimistic: a rising function is not."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(50):
        strong = (rng.random(200) < 0.9).astype(float)
        weak = (rng.random(200) < 0.6).astype(float)
        shares.append(planned(Goal("quality", 0.85), labels(strong, weak), rng.normal(size=200)).strong_share)
    # A fixed mixture keeps 85 % of .9 at a share of (.765 - .6) / .3.
    assert 0.4 < np.mean(shares) < 0.6


def test_a_goal_that_no_share_reaches_is_said() -> None:
    found = labels(np.zeros(10), np.zeros(10))
    assert planned(Goal("quality", 0.9), found, np.arange(10.0)).is_reached
    better = labels(np.full(10, 0.5), np.full(10, 0.8))
    nothing = planned(Goal("quality", 0.9), better, np.arange(10.0))
    assert nothing.strong_share == 0.0
    cheap = planned(Goal("usd_per_1k", 0.5), labels(np.ones(10), np.zeros(10), np.ones((10, 2))), np.arange(10.0))
    assert not cheap.is_reached


def test_a_budget_buys_the_prompts_that_need_it_most() -> None:
    found, scores = halves(10)
    costs = np.column_stack([np.full(10, 0.011), np.full(10, 0.001)])
    with_costs = labels(found.strong, found.weak, costs)
    plan = planned(Goal("usd_per_1k", 4.0), with_costs, scores)
    assert plan.strong_share == pytest.approx(0.3)
    assert plan.quality == pytest.approx(0.8)
    with pytest.raises(InvalidArgumentError, match="give prices, or costs"):
        planned(Goal("usd_per_1k", 4.0), found, scores)


def test_a_share_is_taken_as_it_is() -> None:
    found, scores = halves()
    assert planned(Goal("strong_share", 0.333), found, scores).strong_share == 0.333


@pytest.mark.parametrize(
    ("kind", "value"), [("quality", 0.0), ("quality", 1.1), ("strong_share", -0.1), ("usd_per_1k", 0.0), ("speed", 1.0)]
)
def test_a_goal_that_means_nothing_is_refused(kind: str, value: float) -> None:
    with pytest.raises(InvalidArgumentError):
        Goal(kind, value)  # type: ignore[arg-type]
