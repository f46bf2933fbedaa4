from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from routellm_fast import Calibration, InvalidArgumentError, InvalidThresholdError
from routellm_fast.calibration import OperatingPoint, Target
from routellm_fast.interval import Interval
from routellm_fast.thresholds import check_drift
from routellm_fast.thresholds.drift import QUANTILE_STEPS, kolmogorov_survival, win_rate_quantiles


def calibrated(rates: np.ndarray, *, sketch: bool = True) -> Calibration:
    rates = rates.astype(np.float32)
    calibration = Calibration.from_win_rates(rates, dataset="reference")
    return replace(calibration, win_rate_quantiles=win_rate_quantiles(rates)) if sketch else calibration


def draw(rng: np.random.Generator, n: int, a: float = 2.0, b: float = 3.0) -> np.ndarray:
    return rng.beta(a, b, size=n).astype(np.float32)


def test_the_survival_function_is_kolmogorovs() -> None:
    for value in (0.0, 0.05, 0.2, 0.5, 0.8, 1.0, 1.17, 1.18, 1.19, 1.36, 1.63, 2.0, 3.0, 6.0):
        assert kolmogorov_survival(value) == pytest.approx(special.kolmogorov(value), abs=1e-12, rel=1e-9), value


@pytest.mark.parametrize(("n", "m"), [(50, 80), (2000, 3000)])
def test_the_statistic_is_that_of_the_samples_but_for_the_quantiles_kept(n: int, m: int) -> None:
    rng = np.random.default_rng(1)
    for a in (2.0, 2.6):
        old, new = np.round(draw(rng, n), 6), np.round(draw(rng, m, a), 6)
        exact = stats.ks_2samp(old, new, method="asymp")
        found = check_drift(calibrated(old), new)
        kept = 0.0 if n <= QUANTILE_STEPS else 1.0 / QUANTILE_STEPS
        assert exact.statistic - kept - 3 / n <= found.statistic <= exact.statistic + 1e-9
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.05)


@pytest.mark.parametrize("kind", ["smooth", "tied", "few values"])
def test_unchanged_traffic_raises_few_alarms(kind: str) -> None:
    rng = np.random.default_rng(2)
    alpha, runs, alarms = 0.1, 200, 0
    for _ in range(runs):
        old, new = draw(rng, 400), draw(rng, 500)
        if kind == "tied":  # a fifth of the traffic is one prompt
            old[rng.random(400) < 0.2] = new[rng.random(500) < 0.2] = np.float32(0.123456)
        if kind == "few values":
            old, new = (np.round(rates, 1).astype(np.float32) for rates in (old, new))
        alarms += check_drift(calibrated(old), new, alpha=alpha, tolerance=0.0).drifted
    # Three standard deviations above alpha at most; it is not so careful as never to fire either.
    assert alarms / runs <= alpha + 3.0 * np.sqrt(alpha * (1 - alpha) / runs)
    assert alarms > 0


def test_a_shift_is_seen_and_an_irrelevant_one_is_not() -> None:
    rng = np.random.default_rng(3)
    calibration = calibrated(draw(rng, 5000))
    found = check_drift(calibration, draw(rng, 2000, 3.0))
    assert (found.verdict, found.drifted) == ("drifted", True)
    assert found.p_value < 1e-6
    assert found.psi > 0.1
    assert found.statistic == pytest.approx(0.18, abs=0.05)
    slight = draw(rng, 200_000, 2.03)
    huge = calibrated(draw(rng, 200_000))
    assert check_drift(huge, slight, tolerance=0.02).verdict == "matches"
    assert check_drift(huge, slight, tolerance=0.0).drifted


def test_one_threshold_may_tell_what_the_whole_distribution_does_not() -> None:
    rng = np.random.default_rng(4)
    old = np.concatenate([rng.random(9900) * 0.5, np.full(100, 0.9)]).astype(np.float32)
    new = np.concatenate([rng.random(1920) * 0.5, np.full(80, 0.9)]).astype(np.float32)
    point = OperatingPoint(Target("strong_share", 0.01), Interval(0.8, 0.8, 0.8), Interval(0.01, 0.008, 0.012))
    calibration = replace(calibrated(old), operating_points={point.target.name: point})
    found = check_drift(calibration, new, alpha=1e-4)
    assert found.p_value > 1e-4 / 2
    assert found.drifted
    assert [entry.name for entry in found.points] == ["strong_share=0.01"]
    share = found.points[0].strong_share
    assert (found.points[0].expected_share, share.value) == (0.01, pytest.approx(0.04))
    assert share.low < 0.04 < share.high


def test_few_prompts_are_too_few_to_tell_unless_they_tell() -> None:
    rng = np.random.default_rng(5)
    calibration = calibrated(draw(rng, 5000))
    found = check_drift(calibration, draw(rng, 40))
    assert found.verdict == "too few to tell"
    assert found.detectable > 0.2
    assert check_drift(calibration, np.full(10, 0.999, np.float32)).verdict == "too few to tell"
    assert check_drift(calibration, np.full(40, 0.999, np.float32)).verdict == "drifted"
    assert check_drift(Calibration("d", 3, ((0.0, 1.0), (1.0, 0.0))), draw(rng, 400)).verdict == "too few to tell"


@pytest.mark.parametrize("shift", [2.0, 3.0])
def test_a_calibration_without_quantiles_is_checked_by_its_table(shift: float) -> None:
    rng = np.random.default_rng(6)
    old, new = draw(rng, 3000), draw(rng, 3000, shift)
    table, sketch = (check_drift(calibrated(old, sketch=has), new) for has in (False, True))
    assert table.verdict == sketch.verdict == ("drifted" if shift == 3.0 else "matches")
    assert table.statistic == pytest.approx(sketch.statistic, abs=0.006)
    assert table.psi == pytest.approx(sketch.psi, abs=0.01)
    assert [point.name for point in table.points] == [f"strong_share={s}" for s in (0.1, 0.25, 0.5, 0.75, 0.9)]


def test_another_instruction_set_is_no_drift() -> None:
    old = np.full(1000, 0.3, np.float32)
    old[:500] = 0.6
    for new in (np.nextafter(old, np.float32(1)), old + np.float32(2e-6), old - np.float32(2e-6)):
        for sketch in (True, False):
            found = check_drift(calibrated(old, sketch=sketch), new)
            assert found.statistic == 0.0
            assert found.psi == pytest.approx(0.0, abs=2e-3)
            assert all(point.p_value > 0.9 for point in found.points)


def test_a_drift_is_json() -> None:
    rng = np.random.default_rng(7)
    found = check_drift(calibrated(draw(rng, 300)), draw(rng, 300))
    assert json.loads(json.dumps(found.to_json()))["verdict"] == found.verdict


def test_bad_arguments_are_refused() -> None:
    calibration = calibrated(np.linspace(0, 1, 200))
    good = np.linspace(0, 1, 200).astype(np.float32)
    for rates in (np.zeros(0, np.float32), np.array([np.nan], np.float32), np.array([[0.5]], np.float32), good + 1):
        with pytest.raises(InvalidArgumentError):
            check_drift(calibration, rates)
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(InvalidArgumentError, match="alpha"):
            check_drift(calibration, good, alpha=alpha)
    with pytest.raises(InvalidThresholdError):
        check_drift(calibration, good, tolerance=2.0)
