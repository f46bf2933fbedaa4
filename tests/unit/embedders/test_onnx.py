from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.onnx import SessionOptions
from routellm_fast.routers import MatrixFactorizationRouter
from tests.support.builders import mf_weights
from tests.support.manifests import editable_manifest
from tests.support.transformer_builders import encoder_folder, wordpiece_json

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")

TEXTS = ["hello the", "", "prove ? a b c " * 9, "write"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("hf") / "encoder")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> rf.OnnxEmbedder:
    return rf.OnnxEmbedder.load(folder)


def expected(folder: Path, texts: list[str], *, pooling: str, normalize: bool, limit: int) -> np.ndarray:
    """sentence-transformers' steps, one text at a time."""
    import tokenizers
    import transformers

    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = tokenizers.Tokenizer.from_buffer(wordpiece_json())
    tokenizer.enable_truncation(limit)
    rows = []
    for text in texts:
        with torch.no_grad():
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].numpy()
        pooled = states[0] if pooling == "cls" else states.mean(axis=0)
        rows.append(pooled / np.linalg.norm(pooled) if normalize else pooled)
    return np.array(rows)


@pytest.mark.parametrize(("pooling", "normalize"), [("mean", True), ("mean", False), ("cls", True)])
def test_vectors_are_those_of_the_encoder(pooling: str, normalize: bool, tmp_path: Path) -> None:
    path = encoder_folder(tmp_path / "e", pooling=pooling, normalize=normalize)
    found = rf.OnnxEmbedder.load(path).embed(TEXTS)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    wanted = expected(path, TEXTS, pooling=pooling, normalize=normalize, limit=8)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_without_pooling_files_the_mean_is_scaled(tmp_path: Path) -> None:
    path = encoder_folder(tmp_path / "e", pooling=None)
    wanted = expected(path, TEXTS, pooling="mean", normalize=True, limit=32)
    np.testing.assert_allclose(rf.OnnxEmbedder.load(path).embed(TEXTS), wanted, atol=1e-5)


def test_it_is_an_embedder(embedder: rf.OnnxEmbedder) -> None:
    assert isinstance(embedder, rf.Embedder)
    assert (embedder.name, embedder.dim) == ("onnx:encoder", 16)
    assert embedder.fingerprint.startswith("sha256:")
    assert embedder.embed([]).shape == (0, 16)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    np.testing.assert_array_equal(embedder.embed(TEXTS), alone)
    assert "dim=16" in repr(embedder)


def test_it_pickles_with_its_graph_or_by_its_directory(embedder: rf.OnnxEmbedder, tmp_path: Path) -> None:
    embedder.save(tmp_path / "embedder")
    options = SessionOptions(device="cpu", threads=1)
    saved = rf.OnnxEmbedder.load(tmp_path / "embedder", options=options)
    assert len(pickle.dumps(saved)) < 2000 < len(pickle.dumps(embedder))
    for original in (embedder, saved):
        for copied in (pickle.loads(pickle.dumps(original, 2)), copy.deepcopy(original)):
            assert copied.fingerprint == embedder.fingerprint
            assert repr(copied) == repr(embedder)
            np.testing.assert_array_equal(copied.embed(TEXTS), embedder.embed(TEXTS))
    assert pickle.loads(pickle.dumps(saved))._options == options


def test_it_can_be_saved_alone_and_with_a_router(embedder: rf.OnnxEmbedder, tmp_path: Path) -> None:
    embedder.save(tmp_path / "embedder")
    router = MatrixFactorizationRouter(
        ("big", "small", "other"), **mf_weights(dim=16), model_pair=rf.ModelPair("big", "small"), embedder=embedder
    )
    router.save(tmp_path / "router")
    for path in (tmp_path / "embedder", tmp_path / "router"):
        again = rf.OnnxEmbedder.load(path)
        assert again.fingerprint == embedder.fingerprint
        np.testing.assert_array_equal(again.embed(TEXTS), embedder.embed(TEXTS))
    np.testing.assert_array_equal(rf.load_router(tmp_path / "router").win_rates(TEXTS), router.win_rates(TEXTS))


def test_other_directories_are_refused(embedder: rf.OnnxEmbedder, tmp_path: Path) -> None:
    with pytest.raises(rf.ArtifactNotFoundError, match="is no directory"):
        rf.OnnxEmbedder.load(tmp_path / "none")
    with pytest.raises(rf.ArtifactNotFoundError, match=r"lacks config\.json"):
        rf.OnnxEmbedder.load(tmp_path)
    from routellm_fast.routers.loading import SHIPPED_ROUTER

    with pytest.raises(rf.ArtifactFormatError, match="of kind 'static'"):
        rf.OnnxEmbedder.load(SHIPPED_ROUTER)
    embedder.save(tmp_path / "embedder")
    manifest = editable_manifest(tmp_path / "embedder" / "embedder.json")
    manifest["embedder"]["dim"] = 17
    (tmp_path / "embedder" / "embedder.json").write_text(json.dumps(manifest))
    with pytest.raises(rf.ArtifactFormatError, match="16 dimensions, the manifest says 17"):
        rf.OnnxEmbedder.load(tmp_path / "embedder")


def test_unknown_pooling_and_modules_are_refused(tmp_path: Path) -> None:
    path = encoder_folder(tmp_path / "max", pooling="max")
    with pytest.raises(rf.ArtifactFormatError, match="pooling_mode_max_tokens"):
        rf.OnnxEmbedder.load(path)
    (path / "modules.json").write_text(
        json.dumps([{"type": "a.Transformer", "path": ""}, {"type": "a.Dense", "path": "1"}])
    )
    with pytest.raises(rf.ArtifactFormatError, match="has the modules Transformer, Dense"):
        rf.OnnxEmbedder.load(path)
    (path / "modules.json").write_text("7")
    with pytest.raises(rf.ArtifactFormatError, match="no list"):
        rf.OnnxEmbedder.load(path)
