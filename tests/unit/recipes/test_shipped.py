from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recipes import shipped
from routellm_fast import load_router
from routellm_fast.data import to_arrays
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training.gap_regression import train


def test_the_head_that_ships_is_what_the_recipe_gives(shared_data: Path) -> None:
    """Trained again with the embedder that ships; only distilling that one again is left out here."""
    pair_rows, other_rows = shipped.read_rows(shared_data / "train")
    gap_rows = to_arrays(battle for _, battle in pair_rows)
    embedder = StaticEmbedder.load(SHIPPED_ROUTER)
    trained = train(gap_rows, shipped.weigh(pair_rows, other_rows), embedder, shipped.CONFIG)
    router = load_router()
    for name in ("P", "W", "w"):
        # Another machine's linear algebra may differ in the last digits.
        np.testing.assert_allclose(getattr(trained, name), router._weights[name], rtol=1e-4, atol=1e-6)  # type: ignore[attr-defined]
    assert router.provenance["training"]["config"] == trained.metrics["config"]


def test_the_script_that_made_it_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"another encoder")
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--encoder", str(tmp_path)]
    assert shipped.main(arguments) == 2
    assert "sha256" in capsys.readouterr().err
    assert shipped.main([*arguments[:-1], str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "out").exists()
