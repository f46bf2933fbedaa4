from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routellm_fast.training.leave_one_out import gain_area, main


def test_the_area_is_a_half_for_a_flat_gain_and_more_where_gains_come_first() -> None:
    rates = np.array([0.9, 0.8, 0.2, 0.1])
    assert gain_area(rates, np.array([1.0, 1.0, 1.0, 1.0])) == pytest.approx(0.5)
    assert gain_area(rates, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(1 - 1 / 8)
    assert gain_area(rates, np.array([0.0, 0.0, 0.0, 1.0])) == pytest.approx(1 / 8)


def test_the_area_does_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    rates, gaps = rng.random(50), rng.choice([-1.0, 0.0, 1.0, 1.0], 50)
    order = rng.permutation(50)
    assert gain_area(rates[order], gaps[order]) == pytest.approx(gain_area(rates, gaps))


def test_missing_data_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out.json")]) == 2
    assert "prompts.csv.gz" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
