from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast import Calibration, InvalidArgumentError, InvalidThresholdError, UnreachableTargetError
from routellm_fast.calibration import IsotonicMap, PlattMap
from routellm_fast.routers import RandomRouter, Router
from tests.support.builders import PAIR, mf_router
from tests.support.calibration_builders import full_calibration
from tests.support.manifests import editable_manifest
from tests.support.processes import run_python
from tests.support.sw_builders import sw_router


def test_the_threshold_sends_the_asked_share_to_the_strong_model() -> None:
    rates = np.random.default_rng(0).beta(2, 5, size=5000).astype(np.float32)
    calibration = Calibration.from_win_rates(rates, dataset="beta")
    for share in (0.001, 0.1, 0.25, 0.5, 0.777, 0.9, 0.999):
        assert (rates >= calibration.threshold_for(share)).mean() == pytest.approx(share, abs=2e-3)
    assert (rates >= calibration.threshold_for(0)).sum() == 0
    assert (rates >= calibration.threshold_for(1)).all()


def test_a_single_prompt_is_calibrated_too() -> None:
    calibration = Calibration.from_win_rates(np.array([0.7], np.float32), dataset="one")
    assert 0 <= calibration.threshold_for(0.5) <= 1


def test_a_threshold_tells_its_share() -> None:
    calibration = Calibration("d", 4, ((0.0, 1.0), (0.2, 0.8), (0.4, 0.5), (0.6, 0.5), (1.0, 0.0)))
    shares = {1.0: 0.0, 0.9: 0.1, 0.8: 0.2, 0.65: 0.3, 0.5: 0.6, 0.25: 0.8, 0.0: 1.0}
    for threshold, share in shares.items():
        assert calibration.share_at(threshold) == pytest.approx(share), threshold
    for share in (0.05, 0.2, 0.9):
        assert calibration.share_at(calibration.threshold_for(share)) == pytest.approx(share)
    with pytest.raises(InvalidThresholdError):
        calibration.share_at(1.5)


def test_json_round_trip() -> None:
    calibration = Calibration.from_win_rates(np.linspace(0, 1, 50, dtype=np.float32), dataset="line", steps=10)
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert set(calibration.to_json()) == {"dataset", "prompt_count", "table"}


@pytest.mark.parametrize("probability", [PlattMap(1.5, -0.25), IsotonicMap((0.25, 0.5), (0.1, 0.4)), None])
def test_everything_survives_json(probability: PlattMap | IsotonicMap | None) -> None:
    calibration = replace(full_calibration(), probability=probability)
    text = json.dumps(calibration.to_json())
    again = Calibration.from_json(json.loads(text))
    assert again == calibration
    assert hash(again) == hash(calibration)
    assert json.dumps(again.to_json()) == text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"surprise": 1}, "surprise"),
        ({"created": 20261124}, "created must be a string"),
        ({"prompt_digest": None}, "prompt_digest"),
        ({"prompt_count": 0}, "one prompt at least"),
        ({"prompt_count": True}, "prompt_count an integer"),
        ({"table": [[0, 10**400], [1, 0]]}, "rows"),
        ({"win_rate_quantiles": [0.5]}, "two numbers"),
        ({"win_rate_quantiles": [0.5, 0.4]}, "never fall"),
        ({"win_rate_quantiles": [0.5, 10**400]}, "finite"),
        ({"win_rate_quantiles": [0.5, "1"]}, "number"),
        ({"win_rate_quantiles": "0.5"}, "list"),
        ({"prices": {}}, "missing"),
        ({"prices": {"strong": {}, "weak": {}, "output_tokens": 1, "input_tokens": 1}}, "prices.strong"),
        ({"operating_points": []}, "operating_points"),
        ({"operating_points": {"pgr=0.5": {}}}, "missing"),
        ({"operating_points": {"x": {"kind": "pgr", "value": 0.5, "threshold": [0, 0, 0], "strong_share": [0, 0, 0]}}},
         "named 'pgr=0.5'"),
        ({"operating_points": {"x": {"kind": "luck", "value": 0, "threshold": [0, 0, 0], "strong_share": [0, 0, 0]}}},
         "a target is one of"),
        ({"operating_points": {"x": {"kind": [], "value": 0, "threshold": [0, 0, 0], "strong_share": [0, 0, 0]}}},
         "a target is one of"),
        ({"operating_points": {"x": {"kind": "pgr", "value": 0, "threshold": [0, 0], "strong_share": [0, 0, 0]}}},
         "value, low and high"),
        ({"operating_points": {"x": {"kind": "pgr", "value": 0, "threshold": [2, 2, 2], "strong_share": [0, 0, 0]}}},
         "threshold"),
        ({"operating_points": {"x": {"kind": "pgr", "value": 0, "threshold": [0, 1, 1], "strong_share": [0, 0, 0]}}},
         "between low and high"),
        ({"probability": {"method": "magic"}}, "platt or isotonic"),
        ({"probability": []}, "platt or isotonic"),
        ({"probability": {"method": "platt", "slope": -1, "intercept": 0}}, "slope"),
        ({"probability": {"method": "platt", "slope": 1}}, "intercept"),
        ({"probability": {"method": "isotonic", "win_rates": [0.1, 0.1], "probabilities": [0, 1]}}, "strictly"),
        ({"probability": {"method": "isotonic", "win_rates": [0.1, 0.2], "probabilities": [1, 0]}}, "never fall"),
        ({"probability": {"method": "isotonic", "win_rates": [0.1, 0.2], "probabilities": [0, 0, 1]}}, "one probab"),
    ],
)  # fmt: skip
def test_damaged_calibrations_are_refused_by_name(changes: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidArgumentError, match=word):
        Calibration.from_json({**full_calibration().to_json(), **changes})


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


ROUTERS = {
    "mf": mf_router,
    "random": lambda: RandomRouter(PAIR, seed=3),
    "sw_ranking": lambda: sw_router("int8", added=(9,)),
}


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_router_with_another_calibration_is_the_same_to_the_byte(kind: str, tmp_path: Path) -> None:
    router: Router = ROUTERS[kind]()  # type: ignore[operator]
    router.save(tmp_path / "old")
    calibration = full_calibration()
    loaded = rf.load_router(tmp_path / "old")
    calibrated = loaded.with_calibration(calibration)
    assert loaded.calibration == router.calibration
    calibrated.save(tmp_path / "new")
    rf.load_router(tmp_path / "new").save(tmp_path / "again")
    assert rf.load_router(tmp_path / "again").calibration == calibration
    names = {file.name for file in (tmp_path / "old").iterdir()}
    assert names == {file.name for file in (tmp_path / "new").iterdir()}
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()
        if name != "router.json":
            assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "old" / name).read_bytes()
    for name in names & {"bank.safetensors", "bank.1.safetensors", "codes.safetensors"}:
        assert (tmp_path / "new" / name).samefile(tmp_path / "old" / name)
    old, new = (editable_manifest(tmp_path / folder / "router.json") for folder in ("old", "new"))
    old.pop("calibration"), new.pop("calibration")
    assert old == new
    prompts = ["hello", "prove the a?"]
    np.testing.assert_array_equal(calibrated.win_rates(prompts), router.win_rates(prompts))


def test_probabilities_read_win_rates_and_decisions_do_not() -> None:
    plain = mf_router()
    router = plain.with_calibration(full_calibration())
    prompts = ["hello", "prove the a?", ""]
    expected = np.interp(plain.win_rates(prompts), (0.25, 0.5, 0.75), (0.1, 0.4, 0.9))
    found = router.probabilities(prompts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert router.probability("hello") == found[0]
    assert router.route_batch(prompts, 0.4) == plain.route_batch(prompts, 0.4)
    for bare in (plain, plain.with_calibration(None)):
        with pytest.raises(InvalidArgumentError, match="no probability map"):
            bare.probabilities(prompts)


def test_a_failed_write_leaves_the_old_router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from routellm_fast import _renames

    mf_router().save(tmp_path / "router")
    before = {file.name: file.read_bytes() for file in (tmp_path / "router").iterdir()}

    def full_disk(new: Path, path: Path) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_renames, "exchange", full_disk)
    loaded = rf.load_router(tmp_path / "router")
    with pytest.raises(rf.ArtifactWriteError, match="unchanged"):
        loaded.with_calibration(full_calibration()).save(tmp_path / "router")
    assert {file.name: file.read_bytes() for file in (tmp_path / "router").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["router"]


def test_routing_loads_the_table_only() -> None:
    program = """
import sys, routellm_fast
print(sorted(name for name in sys.modules if name.startswith("routellm_fast.calibration.")))
import routellm_fast.calibration as calibration
assert all(getattr(calibration, name).__doc__ for name in calibration.__all__)
try:
    calibration.nothing
except AttributeError as error:
    print(error)
"""
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr
    loaded, missing = run.stdout.splitlines()
    assert loaded == "['routellm_fast.calibration.table']"
    assert "nothing" in missing


def tied(low: int, same: int, high: int) -> Calibration:
    """Of 1,000 prompts `same` have the win rate 0.7, as float32 has it."""
    rates = np.concatenate([np.linspace(0.1, 0.4, low), np.full(same, 0.7), np.linspace(0.8, 0.9, high)])
    return Calibration.from_win_rates(rates.astype(np.float32), dataset="tied")


def test_a_share_that_ties_make_unreachable_is_an_error_that_names_the_nearest() -> None:
    calibration = tied(300, 600, 100)
    words = r"a share of 0\.3 .*Nearest is a share of 0\.1, .*other side 0\.(7|699)"
    with pytest.raises(UnreachableTargetError, match=words):
        calibration.threshold_for(0.3)
    with pytest.raises(UnreachableTargetError, match=r"Nearest is a share of 0\.(7|699), .*other side 0\.1"):
        calibration.threshold_for(0.5)
    # What the text names can be asked for, and is what routing yields.
    rates = np.concatenate([np.linspace(0.1, 0.4, 300), np.full(600, 0.7), np.linspace(0.8, 0.9, 100)])
    for share in (0.1, 0.7, 0.69, 0.85, 0.05):
        reached = (rates.astype(np.float32) >= calibration.threshold_for(share)).mean()
        assert reached == pytest.approx(share, abs=0.021), share
    assert calibration.quantile(0.3) == pytest.approx(0.7)


def test_a_router_that_gives_one_win_rate_to_all_has_no_threshold_for_a_share() -> None:
    flat = Calibration.from_win_rates(np.full(1000, 0.5, np.float32), dataset="flat")
    for share in (0.3, 0.5):
        with pytest.raises(UnreachableTargetError, match="have the same win rate, 0.5"):
            flat.threshold_for(share)
    assert flat.threshold_for(0.0) == 1.0
    assert flat.threshold_for(1.0) == 0.0


def test_win_rates_of_one_reach_every_threshold() -> None:
    rates = np.concatenate([np.ones(200), np.linspace(0.1, 0.9, 800)]).astype(np.float32)
    calibration = Calibration.from_win_rates(rates, dataset="ones")
    with pytest.raises(UnreachableTargetError, match=r"Nearest is a share of 0\.(2|199), at threshold 1"):
        calibration.threshold_for(0.0)
    assert (rates >= calibration.threshold_for(0.2)).mean() == pytest.approx(0.2, abs=2e-3)


def test_prompts_that_are_tied_at_a_threshold_all_reach_it() -> None:
    random = np.random.default_rng(0)
    for value in random.random(200).astype(np.float32):
        rates = np.concatenate([np.full(500, value), random.random(500) * 0.001]).astype(np.float32)
        table = Calibration.from_win_rates(rates, dataset="t")
        assert (rates >= np.float64(table.quantile(0.5))).mean() >= 0.5
