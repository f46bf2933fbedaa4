from __future__ import annotations

import numpy as np
import pytest

from routellm_fast.calibration import Target
from routellm_fast.errors import DataError, InvalidArgumentError, UnreachableTargetError
from routellm_fast.thresholds.search import Sample, find_points

RATES = np.array([0.2, 0.8, 0.4, 0.6], np.float32)
ONES = np.ones(4, np.int64)


def sample(rates: object = RATES, counts: object = None, strong: object = None, weak: object = None) -> Sample:
    rates = np.asarray(rates, np.float32)
    counts = np.ones(len(rates), np.int64) if counts is None else np.asarray(counts, np.int64)
    return Sample(rates, counts, *(None if side is None else np.asarray(side, np.float64) for side in (strong, weak)))


def one(target: Target, traffic: Sample, labelled: Sample | None = None):
    return find_points([target], traffic, labelled, resamples=100)[0]


@pytest.mark.parametrize(
    ("share", "threshold", "achieved"),
    [(0, 1.0, 0.0), (0.25, 0.7, 0.25), (0.3, 0.7, 0.25), (0.5, 0.5, 0.5), (0.7, 0.3, 0.75), (1, 0.0, 1.0)],
)
def test_strong_shares_by_hand(share: float, threshold: float, achieved: float) -> None:
    point = one(Target("strong_share", share), sample())
    assert point.threshold.value == pytest.approx(threshold)
    assert point.strong_share.value == pytest.approx(achieved)
    assert (point.cost_usd_per_1k, point.quality, point.pgr) == (None, None, None)


def test_repeated_prompts_are_traffic() -> None:
    point = one(Target("strong_share", 0.5), sample(counts=[1, 5, 1, 3]))
    assert (point.threshold.value, point.strong_share.value) == (pytest.approx(0.7), 0.5)


def test_ties_fall_on_one_side_and_the_share_that_is_reached_is_stated() -> None:
    rates = [0.5] * 8 + [0.9, 0.1]
    point = one(Target("strong_share", 0.3), sample(rates))
    assert (point.threshold.value, point.strong_share.value) == (pytest.approx(0.7), pytest.approx(0.1))
    point = one(Target("strong_share", 0.6), sample(rates))
    assert (point.threshold.value, point.strong_share.value) == (pytest.approx(0.3), pytest.approx(0.9))


def test_a_win_rate_of_one_reaches_every_threshold() -> None:
    point = one(Target("strong_share", 0.0), sample([1.0, 1.0, 0.5, 0.25]))
    assert (point.threshold.value, point.strong_share.value) == (pytest.approx(0.75), 0.5)


def test_neighbouring_float32_win_rates_are_told_apart() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    point = one(Target("strong_share", 0.5), sample([low, high]))
    assert float(low) < point.threshold.value < float(high)


def test_budgets_by_hand() -> None:
    # Dollars a request: all weak 0.001 on average, each strong one adds 0.009 but for the first, which adds 0.019.
    traffic = sample(strong=[0.01, 0.02, 0.01, 0.01], weak=[0.001] * 4)
    for budget, share, cost in ((1.0, 0.0, 1.0), (5.9, 0.25, 5.75), (8.1, 0.5, 8.0), (99, 1.0, 12.5)):
        point = one(Target("cost_usd_per_1k", budget), traffic)
        assert (point.strong_share.value, point.cost_usd_per_1k.value) == (share, pytest.approx(cost))
    point = one(Target("cost_share", 0.64), traffic)
    assert (point.strong_share.value, point.cost_usd_per_1k.value) == (0.5, pytest.approx(8.0))
    with pytest.raises(UnreachableTargetError, match=r"cost_usd_per_1k=0.5.*Nearest is 1,? at threshold 1"):
        one(Target("cost_usd_per_1k", 0.5), traffic)
    with pytest.raises(UnreachableTargetError, match=r"Nearest is 0\.08"):
        one(Target("cost_share", 0.05), traffic)


def test_a_weak_model_that_is_dearer_for_some_prompts_is_no_trap() -> None:
    # Costs of splits: 2, 1.75, 2.25, 1.5, 1.75 dollars.
    traffic = sample(strong=[2.0, 1.0, 1.0, 4.0], weak=[1.0, 2.0, 4.0, 2.0])
    splits = traffic.splits()
    np.testing.assert_allclose(splits.value, [2.25, 2.0, 2.5, 1.75, 2.0])
    point = one(Target("cost_usd_per_1k", 2000.0), traffic)
    assert point.strong_share.value == 1.0
    point = one(Target("cost_usd_per_1k", 1900.0), traffic)
    assert (point.strong_share.value, point.cost_usd_per_1k.value) == (0.75, pytest.approx(1750.0))


def test_qualities_by_hand() -> None:
    # Quality of splits, from none strong to all: 0.25, 0.5, 0.5, 0.75, 0.75.
    labelled = sample(strong=[0, 1, 1, 1], weak=[0, 0, 0, 1])
    traffic = sample([0.75, 0.65, 0.1, 0.05])
    point = one(Target("pgr", 0.5), traffic, labelled)
    assert point.threshold.value == pytest.approx(0.7)
    assert point.strong_share.value == 0.25
    assert (point.quality.value, point.pgr.value) == (0.5, 0.5)
    point = one(Target("quality", 0.7), traffic, labelled)
    assert (point.threshold.value, point.strong_share.value) == (pytest.approx(0.3), 0.5)
    assert (point.quality.value, point.pgr.value) == (0.75, 1.0)
    with pytest.raises(UnreachableTargetError, match=r"quality=0.8.*Nearest is 0.75"):
        one(Target("quality", 0.8), traffic, labelled)
    with pytest.raises(UnreachableTargetError, match=r"pgr=1.2.*Nearest is 1,"):
        one(Target("pgr", 1.2), traffic, labelled)


def test_what_is_not_given_is_asked_for() -> None:
    for kind, word in (
        ("cost_share", "prices"),
        ("cost_usd_per_1k", "prices"),
        ("pgr", "labelled"),
        ("quality", "lab"),
    ):
        with pytest.raises(InvalidArgumentError, match=word):
            one(Target(kind, 0.5), sample())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="100 resamples"):
        find_points([Target("strong_share", 0.5)], sample(), resamples=99)


def test_a_gap_that_is_none_cannot_be_recovered() -> None:
    with pytest.raises(DataError, match="no gap"):
        one(Target("pgr", 0.5), sample(), sample(strong=[0, 0, 0, 1], weak=[1, 1, 0, 0]))


def test_equal_win_rates_divide_nothing() -> None:
    with pytest.raises(DataError, match=r"0\.5 for all 4 prompts"):
        one(Target("strong_share", 0.5), sample([0.5] * 4))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("strong_share", 1.1), ("strong_share", -0.1), ("cost_share", 2.0), ("cost_usd_per_1k", -1.0), ("pgr", -0.5),
        ("quality", float("nan")), ("pgr", float("inf")), ("luck", 1.0), ("pgr", True), ("pgr", "0.5"),
    ],
)  # fmt: skip
def test_targets_without_meaning_are_refused(kind: str, value: float) -> None:
    with pytest.raises(InvalidArgumentError):
        Target(kind, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parts",
    [
        {"rates": []}, {"rates": [np.nan]}, {"rates": [1.1]}, {"rates": [0.5], "counts": [1, 1]},
        {"rates": [0.5], "strong": [np.inf], "weak": [0.0]},
    ],
)  # fmt: skip
def test_samples_that_are_none_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        sample(**parts)


def test_the_seed_decides_the_intervals_and_labels_do_not_move_those_of_the_traffic() -> None:
    rng = np.random.default_rng(0)
    traffic = sample(rng.random(300))
    labelled = sample(rng.random(100), strong=rng.random(100) + 0.5, weak=rng.random(100))
    target = Target("strong_share", 0.3)
    first, again, other = (find_points([target], traffic, seed=seed, resamples=200)[0] for seed in (1, 1, 2))
    assert first == again
    assert first.threshold.value == other.threshold.value
    assert first.threshold != other.threshold
    beside = find_points([Target("pgr", 0.5), target], traffic, labelled, seed=1, resamples=200)[1]
    assert (beside.threshold, beside.strong_share) == (first.threshold, first.strong_share)


def test_progress_is_told() -> None:
    calls: list[tuple[int, int]] = []
    find_points([], sample(), resamples=100, on_progress=lambda done, of: calls.append((done, of)))
    assert (calls[0], calls[-1]) == ((1, 100), (100, 100))


def test_intervals_cover_the_truth() -> None:
    """Over repeated logs, 95 % intervals of thresholds, shares, costs and qualities hold what an endless log has."""
    rng = np.random.default_rng(5)
    truth_threshold = 0.7  # of uniform win rates, at a strong share of 0.3
    runs, n = 100, 150
    covered = {"threshold": 0, "share": 0, "cost": 0, "quality": 0}
    for run in range(runs):
        rates = rng.random(n)
        dear = 1.0 + rng.random(n)
        traffic = sample(rates, strong=dear, weak=np.full(n, 0.1))
        labelled_rates = rng.random(n)
        labelled = sample(labelled_rates, strong=rng.random(n) < 0.4 + 0.5 * labelled_rates, weak=rng.random(n) < 0.4)
        point = find_points([Target("strong_share", 0.3)], traffic, labelled, seed=run, resamples=100)[0]
        at = point.threshold.value
        strong = 1.0 - at  # of an endless log
        quality = 0.4 + 0.25 * (1.0 - at * at)
        for name, truth, estimate in (
            ("threshold", truth_threshold, point.threshold),
            ("share", strong, point.strong_share),
            ("cost", 1000.0 * (strong * 1.5 + (1.0 - strong) * 0.1), point.cost_usd_per_1k),
            ("quality", quality, point.quality),
        ):
            covered[name] += estimate.low <= truth <= estimate.high
    for name, count in covered.items():
        assert 0.85 <= count / runs <= 1.0, (name, count / runs)
