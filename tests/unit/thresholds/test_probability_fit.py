from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from routellm_fast import DataError, InvalidArgumentError
from routellm_fast.calibration import IsotonicMap, PlattMap
from routellm_fast.calibration.probability import map_from_json
from routellm_fast.thresholds import Outcomes, fit_probability, probability_fit
from routellm_fast.thresholds.probability_fit import _ece, _fit_isotonic, _fit_platt, choose


def outcomes(n: int, seed: int = 0, *, shape: str = "overconfident", groups: int | None = None) -> Outcomes:
    rng = np.random.default_rng(seed)
    rates = rng.random(n).astype(np.float32)
    truth = {
        "overconfident": 0.35 + 0.3 * rates,
        "honest": rates,
        "upside down": 0.8 - 0.6 * rates,
        "step": np.where(rates > 0.8, 0.9, 0.2),
    }[shape]
    won = (rng.random(n) < truth).astype(np.float64)
    won[rng.random(n) < 0.1] = 0.5
    names = [f"group {index % (groups or n)}" for index in range(n)]
    return Outcomes(rates, won, names)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_overconfident_win_rates_are_put_right(method: str) -> None:
    fit = fit_probability(outcomes(4000), method)  # type: ignore[arg-type]
    assert fit.refusal == ""
    assert fit.log_loss_gain.low > 0.0
    assert fit.after.log_loss < fit.before.log_loss
    assert fit.after.brier < fit.before.brier
    assert fit.before.ece.value > 0.1 > fit.after.ece.value
    assert fit.after.ece_debiased <= fit.after.ece.value
    assert fit.after.ece.low <= fit.after.ece.value <= fit.after.ece.high
    assert (fit.rows, fit.groups) == (4000, 4000)
    found = fit.map(np.array([0.1, 0.5, 0.9]))
    # A tenth are ties, which draw towards a half.
    np.testing.assert_allclose(found, 0.05 + 0.9 * np.array([0.38, 0.5, 0.62]), atol=0.06)
    assert map_from_json(json.loads(json.dumps(fit.map.to_json()))) == fit.map
    json.dumps(fit.to_json())


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_maps_never_fall(method: str) -> None:
    fit = fit_probability(outcomes(500, shape="step"), method)  # type: ignore[arg-type]
    found = fit.map(np.linspace(0, 1, 1001))
    assert (np.diff(found) >= 0.0).all()
    assert ((found > 0.0) & (found < 1.0)).all()


def test_honest_win_rates_are_left_alone() -> None:
    fit = fit_probability(outcomes(300, shape="honest", seed=2), "isotonic")
    assert "held-out prompt groups would rise" in fit.refusal
    assert fit.log_loss_gain.value < 0.0


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_map_that_would_be_flat_is_refused(method: str) -> None:
    fit = fit_probability(outcomes(2000, shape="upside down"), method)  # type: ignore[arg-type]
    assert fit.map.levels == 1 or "would rise" in fit.refusal
    assert fit.refusal


def test_no_group_is_fitted_and_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[set[float]] = []

    def recorded(rates: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> PlattMap:
        fitted.append(set(rates.tolist()))
        return _fit_platt(rates, targets, weights)

    monkeypatch.setattr(probability_fit, "_fit_platt", recorded)
    group = np.arange(600) % 30
    rates = ((group + 1) / 40).astype(np.float32)  # one win rate a group
    won = (np.random.default_rng(3).random(600) < rates).astype(float)
    fit = fit_probability(Outcomes(rates, won, [f"group {number}" for number in group]), "platt")
    assert [len(levels) for levels in fitted] == [24] * 5 + [30]
    # Each group is left out once.
    assert sum(level not in levels for levels in fitted[:5] for level in set(rates.tolist())) == 30
    assert (fit.rows, fit.groups) == (600, 30)


def test_the_best_has_the_least_held_out_loss_but_few_levels_come_last() -> None:
    step = [fit_probability(outcomes(4000, shape="step"), method) for method in ("platt", "isotonic")]
    assert choose(step).method == "isotonic"
    refused = [fit_probability(outcomes(300, shape="honest", seed=2), method) for method in ("platt", "isotonic")]
    assert choose(refused).after.log_loss <= max(fit.after.log_loss for fit in refused)
    binary = Outcomes(
        np.where(np.arange(2000) % 2 == 0, 0.3, 0.7).astype(np.float32),
        (np.random.default_rng(0).random(2000) < np.where(np.arange(2000) % 2 == 0, 0.45, 0.55)).astype(float),
        [str(index) for index in range(2000)],
    )
    fits = [fit_probability(binary, method) for method in ("isotonic", "platt")]
    assert fits[0].has_few_levels
    assert fits[0].map.levels == 2
    assert choose(fits).method == "platt"


def test_isotonic_is_scikit_learns_at_its_steps() -> None:
    data = outcomes(800, seed=4)
    rng = np.random.default_rng(4)
    rates = np.round(data.win_rates, 2)  # with ties
    weights = rng.random(800) + 0.5
    found = _fit_isotonic(rates, data.targets, weights)
    reference = IsotonicRegression(y_min=0.0, y_max=1.0).fit(rates.astype(float), data.targets, sample_weight=weights)
    np.testing.assert_allclose(
        found(found.win_rates), np.clip(reference.predict(found.win_rates), 1 / 802, 801 / 802), atol=1e-6
    )
    steps = len(np.unique(np.round(reference.predict(np.unique(rates).astype(float)), 9)))
    assert found.levels == steps


def test_platt_is_logistic_regression_on_the_logit() -> None:
    data = outcomes(3000, seed=5)
    won = (data.targets > 0.5).astype(float)
    found = _fit_platt(data.win_rates, won, np.ones(3000))
    rates = np.clip(data.win_rates.astype(float), 1e-6, 1 - 1e-6)
    x = np.log(rates / (1 - rates))[:, None]
    reference = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(x, won)
    assert found.slope == pytest.approx(float(reference.coef_[0, 0]), rel=0.01)
    assert found.intercept == pytest.approx(float(reference.intercept_[0]), abs=0.01)


def test_separable_outcomes_have_a_finite_fit() -> None:
    rates = np.linspace(0.01, 0.99, 60).astype(np.float32)
    found = _fit_platt(rates, (rates > 0.5).astype(float), np.ones(60))
    assert np.isfinite([found.slope, found.intercept]).all()
    assert found.slope > 1.0
    constant = _fit_platt(np.full(60, 0.5, np.float32), (rates > 0.5).astype(float), np.ones(60))
    assert (constant.slope, constant.levels) == (0.0, 1)


def test_weights_count_rows() -> None:
    data = outcomes(200, seed=6)
    weights = np.random.default_rng(6).integers(1, 4, 200)
    repeated = np.repeat(np.arange(200), weights)
    heavy = _fit_isotonic(data.win_rates, data.targets, weights.astype(float))
    many = _fit_isotonic(data.win_rates[repeated], data.targets[repeated], np.ones(len(repeated)))
    # But for the distance from 0 and 1, which depends on the number of rows.
    inner = slice(1, -1)
    np.testing.assert_allclose(heavy.probabilities[inner], many.probabilities[inner], atol=1e-9)


def test_ece_by_hand() -> None:
    # Ten bins of one row each, then the same with two rows a level, which stay together.
    probabilities = np.linspace(0.05, 0.95, 10)
    targets = (probabilities > 0.5).astype(float)
    expected = np.abs(targets - probabilities).mean()
    assert _ece(probabilities, targets, np.ones(10))[0] == pytest.approx(expected)
    halves = np.full(10, 0.5)
    assert _ece(halves, targets, np.ones(10))[0] == pytest.approx(0.0)
    assert _ece(halves, np.ones(10), np.ones(10)) == (pytest.approx(0.5), pytest.approx(0.5))


def test_the_debiased_error_of_perfect_probabilities_is_smaller() -> None:
    rng = np.random.default_rng(7)
    plain, debiased = np.mean(
        [_ece(p, (rng.random(500) < p).astype(float), np.ones(500)) for p in rng.random((50, 500))], axis=0
    )
    assert debiased < 0.6 * plain


def test_the_seed_decides_the_folds() -> None:
    data = outcomes(200, seed=8)
    first, again, other = (fit_probability(data, "platt", seed=seed) for seed in (0, 0, 1))
    assert first.to_json() == again.to_json()
    assert first.after.log_loss != other.after.log_loss
    assert first.map == other.map


def test_what_cannot_be_fitted_is_refused() -> None:
    data = outcomes(100)
    with pytest.raises(DataError, match="20 different prompts at least, found 10"):
        fit_probability(outcomes(100, groups=10), "platt")
    with pytest.raises(DataError, match="all 100 outcomes are 0.5"):
        fit_probability(Outcomes(data.win_rates, np.full(100, 0.5), data.groups), "platt")
    with pytest.raises(InvalidArgumentError, match="platt, isotonic"):
        fit_probability(data, "magic")  # type: ignore[arg-type]
    for parts in (
        (data.win_rates, data.targets[:-1], data.groups),
        (data.win_rates, data.targets + 1, data.groups),
        (data.win_rates, data.targets, data.groups[:-1]),
        (data.win_rates, data.targets, data.groups, np.zeros(100)),
        (data.win_rates + 1, data.targets, data.groups),
    ):
        with pytest.raises(InvalidArgumentError):
            Outcomes(*parts)


def test_extreme_win_rates_have_probabilities() -> None:
    for found in (PlattMap(2.0, 0.1), IsotonicMap((0.2, 0.8), (0.3, 0.7))):
        values = found(np.array([0.0, 1e-30, 0.5, 1.0]))
        assert np.isfinite(values).all()
        assert (np.diff(values) >= 0).all()
