from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import Calibration, InvalidArgumentError, InvalidThresholdError


def test_the_threshold_sends_the_asked_share_to_the_strong_model() -> None:
    rates = np.random.default_rng(0).beta(2, 5, size=5000).astype(np.float32)
    calibration = Calibration.from_win_rates(rates, dataset="beta")
    for share in (0.001, 0.1, 0.25, 0.5, 0.777, 0.9, 0.999):
        assert (rates >= calibration.threshold_for(share)).mean() == pytest.approx(share, abs=2e-3)
    assert (rates >= calibration.threshold_for(0)).sum() == 0
    assert (rates >= calibration.threshold_for(1)).all()


def test_ties_and_a_single_prompt_are_calibrated_too() -> None:
    for rates in (np.full(100, 0.3, np.float32), np.array([0.7], np.float32)):
        calibration = Calibration.from_win_rates(rates, dataset="ties")
        assert 0 <= calibration.threshold_for(0.5) <= 1


def test_json_round_trip() -> None:
    calibration = Calibration.from_win_rates(np.linspace(0, 1, 50, dtype=np.float32), dataset="line", steps=10)
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(
    "rates", [np.zeros(0, np.float32), np.array([np.nan], np.float32), np.zeros((2, 2), np.float32)]
)
def test_rates_that_cannot_be_calibrated_are_refused(rates: np.ndarray) -> None:
    with pytest.raises(InvalidArgumentError):
        Calibration.from_win_rates(rates, dataset="bad")


def test_a_share_outside_the_unit_interval_is_refused() -> None:
    calibration = Calibration("d", 2, ((0.0, 1.0), (1.0, 0.0)))
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(InvalidThresholdError):
            calibration.threshold_for(share)
