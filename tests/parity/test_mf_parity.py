from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import routellm_fast as rf
from routellm_fast import _core
from routellm_fast.routers import MatrixFactorizationRouter
from routellm_fast.routers.routellm_checkpoint import ROUTELLM_MODELS
from tests.support.processes import run_python

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "routellm_vectors.json").read_text())
TOLERANCE = 1e-6


def wave(count: int, *shape: int) -> np.ndarray:
    """The same numbers as make_routellm_vectors.py."""
    return np.sin(np.arange(1, 1 + int(np.prod(shape))) * (0.7548776662 + count)).astype(np.float32).reshape(shape)


@pytest.mark.parametrize("folder", ["routellm_checkpoint", "routellm_training_state"])
@pytest.mark.parametrize("pair", RECORDED["pairs"])
def test_checkpoints_give_routellms_own_win_rates(folder: str, pair: tuple[str, str]) -> None:
    strong, weak = pair
    router = MatrixFactorizationRouter.from_routellm(HERE / folder, strong_model=strong, weak_model=weak, embedder=None)
    found = router.win_rates_from_embeddings(wave(5, 40, 96))
    np.testing.assert_allclose(found, RECORDED["small"][f"{strong}|{weak}"], atol=TOLERANCE)


def published_shape(pair: tuple[str, str]) -> MatrixFactorizationRouter:
    P, W, w = wave(1, 64, 128), wave(2, 128, 1536) * np.float32(0.2), wave(3, 1, 128)[0]
    return MatrixFactorizationRouter(ROUTELLM_MODELS, P, W, w, model_pair=rf.ModelPair(*pair))


def test_the_published_shape_gives_routellms_own_win_rates_on_every_isa(isa: str) -> None:
    # Kernels are chosen once a process, so each tier of them has its own.
    run = run_python(__file__, environment={"ROUTELLM_FAST_ISA": isa})
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)
    assert answers.pop("isa") == isa
    assert len(answers) == len(RECORDED["pairs"])
    for pair, found in answers.items():
        np.testing.assert_allclose(found, RECORDED["full"][pair], atol=TOLERANCE)


def test_the_default_pair_is_routellms() -> None:
    router = MatrixFactorizationRouter.from_routellm(HERE / "routellm_checkpoint", embedder=None)
    assert router.model_pair == ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
    assert router.model_names.index("gpt-4-1106-preview") == 24
    assert router.model_names.index("mixtral-8x7b-instruct-v0.1") == 36


def test_config_json_is_optional_but_must_agree(tmp_path: Path) -> None:
    shutil.copytree(HERE / "routellm_checkpoint", tmp_path / "c")
    (tmp_path / "c" / "config.json").write_text('{"dim": 16, "num_models": 64, "text_dim": 97}')
    with pytest.raises(rf.ArtifactFormatError, match="text_dim = 97, the weights have 96"):
        MatrixFactorizationRouter.from_routellm(tmp_path / "c", embedder=None)
    (tmp_path / "c" / "config.json").unlink()
    MatrixFactorizationRouter.from_routellm(tmp_path / "c", embedder=None)


def test_a_retrained_checkpoint_brings_its_own_names(tmp_path: Path) -> None:
    tensors = load_file(HERE / "routellm_checkpoint" / "model.safetensors")
    tensors["P.weight"] = tensors["P.weight"][:3].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(rf.InvalidArgumentError, match="3 models, but 64 names"):
        MatrixFactorizationRouter.from_routellm(tmp_path, embedder=None)
    router = MatrixFactorizationRouter.from_routellm(
        tmp_path, strong_model="a", weak_model="c", embedder=None, model_names=["a", "b", "c"]
    )
    assert router.model_names == ("a", "b", "c")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other tensors", "nan"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    if damage == "truncated":
        content = (HERE / "routellm_checkpoint" / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(content[:100])
    elif damage == "other tensors":
        save_file({"x": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    elif damage == "nan":
        tensors = load_file(HERE / "routellm_checkpoint" / "model.safetensors")
        tensors["P.weight"] = np.full_like(tensors["P.weight"], np.nan)
        save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(rf.ArtifactError):
        MatrixFactorizationRouter.from_routellm(tmp_path, embedder=None)


if __name__ == "__main__":
    queries = wave(6, 40, 1536)
    rates = {
        "|".join(pair): published_shape(pair).win_rates_from_embeddings(queries).tolist() for pair in RECORDED["pairs"]
    }
    print(json.dumps({"isa": _core.active_isa(), **rates}))
