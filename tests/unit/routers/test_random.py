from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.routers import RandomRouter

PAIR = rf.ModelPair("s", "w")


def test_draws_are_uniform_seeded_and_the_same_in_any_batch(tmp_path: Path) -> None:
    prompts = [f"prompt {i}" for i in range(4000)]
    router = RandomRouter(PAIR, seed=5)
    rates = router.win_rates(prompts)
    assert [router.win_rate(p) for p in prompts[:50]] == rates[:50].tolist()
    assert abs(rates.mean() - 0.5) < 0.02
    assert np.histogram(rates, bins=10, range=(0, 1))[0].min() > 300
    assert not np.array_equal(RandomRouter(PAIR, seed=6).win_rates(prompts), rates)
    router.save(tmp_path / "r")
    loaded = rf.load_router(tmp_path / "r")
    assert loaded.kind == "random"
    np.testing.assert_array_equal(loaded.win_rates(prompts), rates)


@pytest.mark.parametrize("seed", [-1, 1 << 63, 0.5, True])
def test_a_seed_is_a_small_natural_number(seed: object) -> None:
    with pytest.raises(rf.InvalidArgumentError):
        RandomRouter(PAIR, seed=seed)  # type: ignore[arg-type]


def test_a_lone_surrogate_has_a_draw() -> None:
    assert 0 <= RandomRouter(PAIR).win_rate("\ud800") < 1
