from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routellm_fast import Calibration, InvalidArgumentError
from routellm_fast.calibration import IsotonicMap, PlattMap, Target
from routellm_fast.calibration.probability import map_from_json
from routellm_fast.thresholds import check_drift
from routellm_fast.thresholds.drift import win_rate_quantiles
from routellm_fast.thresholds.probability_fit import _fit_isotonic, _fit_platt
from routellm_fast.thresholds.search import Sample, find_points
from tests.support.calibration_builders import full_calibration

RATES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30).map(lambda rates: np.array(rates, np.float32))
DIVISIBLE = RATES.filter(lambda rates: len(np.unique(rates)) > 1)
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=5).map(sorted)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    rates = draw(DIVISIBLE)

    def numbers(low: int) -> np.ndarray:
        thousandths = st.integers(1000 * low, 10_000)
        return np.array(draw(st.lists(thousandths, min_size=len(rates), max_size=len(rates)))) / 1000.0

    counts = draw(st.lists(st.integers(1, 5), min_size=len(rates), max_size=len(rates)))
    return Sample(rates, np.array(counts), numbers(-10), numbers(-10))


@given(DIVISIBLE, SHARES)
@settings(max_examples=50, deadline=None)
def test_a_larger_share_never_has_a_higher_threshold(rates: np.ndarray, shares: list[float]) -> None:
    sample = Sample(rates, np.ones(len(rates), np.int64))
    points = find_points([Target("strong_share", share) for share in shares], sample, resamples=100)
    thresholds = [point.threshold.value for point in points]
    assert thresholds == sorted(thresholds, reverse=True)
    for share, point in zip(shares, points, strict=True):
        assert 0.0 <= point.threshold.low <= point.threshold.value <= point.threshold.high <= 1.0
        # What is stated is what routing does, and no threshold comes nearer.
        decided = (rates.astype(np.float64) >= point.threshold.value).mean()
        assert abs(decided - point.strong_share.value) < 1e-8
        reachable = {(rates.astype(np.float64) >= t).mean() for t in [*rates.astype(np.float64), 0.0, 1.0]}
        assert abs(decided - share) <= min(abs(other - share) for other in reachable) + 1e-9
    calibration = Calibration.from_win_rates(rates, dataset="d")
    stored = [calibration.quantile(share) for share in shares]
    assert stored == sorted(stored, reverse=True)


@given(samples())
@settings(max_examples=100, deadline=None)
def test_splits_are_what_routing_yields(sample: Sample) -> None:
    splits, weights = sample.splits(), sample.counts / sample.counts.sum()
    assert sample.strong is not None
    assert sample.weak is not None
    assert splits.value is not None
    for index, threshold in list(enumerate(sample.thresholds))[sample.first :]:
        strong = sample.win_rates.astype(np.float64) >= threshold
        assert sample.split_of(threshold) == index
        np.testing.assert_allclose(splits.share[index], weights @ strong, atol=1e-12)
        np.testing.assert_allclose(
            splits.value[index], weights @ np.where(strong, sample.strong, sample.weak), atol=1e-9
        )


@given(samples(), st.floats(0.0, 10.0))
@settings(max_examples=100, deadline=None)
def test_a_budget_is_kept_and_used(sample: Sample, budget: float) -> None:
    splits = sample.splits()
    assert splits.value is not None
    split, reached = splits.best(Target("cost_usd_per_1k", budget * 1000.0))
    allowed = splits.value[sample.first :]
    assert reached == bool((allowed <= budget + 1e-11).any())
    if reached:
        assert splits.value[split] <= budget + 1e-11
        assert not (splits.value[split + 1 :] <= budget - 1e-11).any()
    split, reached = splits.best(Target("quality", budget))
    if reached:
        assert splits.value[split] >= budget - 1e-11
        assert not (splits.value[sample.first : split] >= budget + 1e-11).any()


@given(RATES, RATES)
@settings(max_examples=100, deadline=None)
def test_drift_never_fails_and_never_exceeds_the_largest_difference(old: np.ndarray, new: np.ndarray) -> None:
    calibration = Calibration.from_win_rates(old, dataset="d")
    edges = np.unique(np.concatenate([old, new]))
    counts = [np.searchsorted(np.sort(rates), edges, "right") for rates in (old, new)]
    exact = np.abs(counts[0] / len(old) - counts[1] / len(new)).max()
    for quantiles in ((), win_rate_quantiles(old)):
        drift = check_drift(Calibration(**{**_fields(calibration), "win_rate_quantiles": quantiles}), new)
        assert 0.0 <= drift.statistic <= exact + 1e-9
        assert 0.0 <= drift.p_value <= 1.0
        assert np.isfinite(drift.psi)
        json.dumps(drift.to_json(), allow_nan=False)


def _fields(calibration: Calibration) -> dict[str, object]:
    return {"dataset": calibration.dataset, "prompt_count": calibration.prompt_count, "table": calibration.table}


@given(RATES, st.data())
@settings(max_examples=100, deadline=None)
def test_probability_maps_never_fall_and_survive_json(rates: np.ndarray, data: st.DataObject) -> None:
    n = len(rates)
    targets = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=n, max_size=n)))
    weights = np.array(data.draw(st.lists(st.floats(0.25, 4), min_size=n, max_size=n)))
    at = np.concatenate([np.linspace(0, 1, 50), np.sort(rates)])
    at.sort()
    for fit in (_fit_platt, _fit_isotonic):
        found: PlattMap | IsotonicMap = fit(rates, targets, weights)
        values = found(at)
        assert ((values >= 0.0) & (values <= 1.0)).all()
        assert (np.diff(values) >= 0.0).all()
        again = map_from_json(json.loads(json.dumps(found.to_json())))
        np.testing.assert_array_equal(again(at), values)


VALUES = [None, True, -1, 0, 1, 10**400, float("inf"), 0.5, 1e308, "", "platt", "isotonic", "pgr", [], [0.5, 0.5], {}]


def _damaged(value: object, data: st.DataObject) -> object:
    """Another value somewhere within, or a key or an element less."""
    if not isinstance(value, (dict, list)) or not value or data.draw(st.integers(0, 9)) == 0:
        return data.draw(st.sampled_from(VALUES))
    copy = value.copy()
    key = (
        data.draw(st.sampled_from(sorted(value)))
        if isinstance(value, dict)
        else data.draw(st.integers(0, len(value) - 1))
    )
    if data.draw(st.integers(0, 9)) == 0:
        del copy[key]  # type: ignore[arg-type]
    else:
        copy[key] = _damaged(value[key], data)  # type: ignore[index, call-overload]
    return copy


@given(st.sampled_from([PlattMap(1.5, -0.25), None]), st.data())
@settings(max_examples=500, deadline=None)
def test_damaged_calibrations_are_refused_or_work(probability: PlattMap | None, data: st.DataObject) -> None:
    calibration = full_calibration()
    calibration = replace(calibration, probability=probability or calibration.probability)
    damaged = _damaged(json.loads(json.dumps(calibration.to_json())), data)
    assume(isinstance(damaged, dict))
    try:
        found = Calibration.from_json(damaged)  # type: ignore[arg-type]
    except InvalidArgumentError:
        return
    rates = np.array([0.0, 0.25, 1.0], np.float32)
    json.dumps(check_drift(found, rates).to_json(), allow_nan=False)
    if found.probability is not None:
        assert ((found.probability(rates) >= 0.0) & (found.probability(rates) <= 1.0)).all()
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found
