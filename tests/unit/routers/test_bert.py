from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.calibration import Calibration
from routellm_fast.onnx import SessionOptions
from routellm_fast.onnx.tokens import TokenEncoder
from routellm_fast.routers import BertRouter
from tests.support.manifests import editable_manifest
from tests.support.processes import assert_refused, run_cli, run_python
from tests.support.transformer_builders import WORDS, classifier_folder, encoder_folder, wordpiece_json

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

PAIR = {"strong_model": "big", "weak_model": "small"}
PROMPTS = ["prove the hello", "", "write", "a b c " * 3, "the " * 200, "prove the a ? " * 5, "日本", "hello\ud800"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classifier_folder(tmp_path_factory.mktemp("hf") / "classifier")


@pytest.fixture(scope="module")
def router(folder: Path) -> BertRouter:
    return BertRouter.from_pretrained(folder, **PAIR)


@pytest.fixture
def saved(router: BertRouter, tmp_path: Path) -> Path:
    router.with_calibration(Calibration.from_win_rates(router.win_rates(PROMPTS), dataset="test")).save(tmp_path / "r")
    return tmp_path / "r"


def test_it_routes_like_any_router(router: BertRouter) -> None:
    found = router.win_rates(PROMPTS)
    assert found.dtype == np.float32
    assert found.shape == (len(PROMPTS),)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.std() > 0.01
    assert router.kind == "bert"
    assert router.model_pair == ("big", "small")
    assert router.route("write", threshold=0.0).model == "big"
    assert router.win_rates([]).shape == (0,)
    assert router.provenance["source"] == "classifier"
    assert len(router.provenance["weights_sha256"]) == 64
    with pytest.raises(rf.EmbedderUnavailableError, match="reads the prompt"):
        _ = router.embedder
    with pytest.raises(TypeError, match="text 1 must be str"):
        router.win_rates(["a", 1])  # type: ignore[list-item]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_win_rates_have_the_same_bits_alone_and_in_any_batch(router: BertRouter, threads: int) -> None:
    rng = np.random.default_rng(0)
    prompts = PROMPTS + [" ".join(rng.choice(WORDS[5:], size=rng.integers(1, 40))) for _ in range(40)]
    alone = [router.win_rate(prompt) for prompt in prompts]
    same = router.with_model(router.onnx_graph(), options=SessionOptions(device="cpu", threads=threads))
    np.testing.assert_array_equal(same.win_rates(prompts), np.array(alone, dtype=np.float32))
    order = rng.permutation(len(prompts))
    np.testing.assert_array_equal(same.win_rates([prompts[i] for i in order]), np.array(alone, dtype=np.float32)[order])


def test_a_dynamically_quantized_graph_depends_on_no_other_prompt_either(router: BertRouter, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = tmp_path / "m.onnx", tmp_path / "q.onnx"
    source.write_bytes(router.onnx_graph())
    quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QInt8)
    quantized = router.with_model(target.read_bytes())
    assert b"DynamicQuantizeLinear" in quantized.onnx_graph()
    alone = np.array([quantized.win_rate(prompt) for prompt in PROMPTS], dtype=np.float32)
    np.testing.assert_array_equal(quantized.win_rates(PROMPTS), alone)
    np.testing.assert_allclose(alone, router.win_rates(PROMPTS), atol=0.1)


def test_long_prompts_are_cut_at_the_models_length(router: BertRouter) -> None:
    assert router.max_tokens == 32
    assert router.win_rate("the " * 30) == router.win_rate("the " * 1000) != router.win_rate("the " * 29)


def test_equal_weights_give_equal_bytes_without_paths(router: BertRouter, folder: Path) -> None:
    again = BertRouter.from_pretrained(folder, **PAIR).onnx_graph()
    assert again == router.onnx_graph()
    assert b".py" not in again
    assert os.fsencode(folder) not in again


def test_a_saved_router_needs_no_torch(router: BertRouter, saved: Path) -> None:
    loaded = rf.load_router(saved, device="cpu", threads=1)
    np.testing.assert_array_equal(loaded.win_rates(PROMPTS), router.win_rates(PROMPTS))
    assert loaded.threshold_for(0.5) == pytest.approx(np.median(router.win_rates(PROMPTS)), abs=0.2)
    program = f"""
import sys
import routellm_fast as rf
print(rf.load_router({str(saved)!r}).route("hello").model in ("big", "small"))
print(sorted({{"torch", "transformers", "tokenizers", "onnx"}} & set(sys.modules)))
"""
    assert run_python("-c", program).stdout.split() == ["True", "[]"]


def test_saving_again_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    rf.load_router(saved, strong_model="other").save(tmp_path / "again")
    for name in ("model.onnx", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_options_go_to_the_kinds_that_take_them(saved: Path, tmp_path: Path) -> None:
    rf.load_router(saved, optimized_cache=tmp_path / "cache", device="cpu")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(rf.ProviderUnavailableError, match="'tensorrt' cannot be used"):
        rf.load_router(saved, device="tensorrt")
    assert rf.load_router(device="cpu").kind == "mf"
    with pytest.raises(rf.InvalidArgumentError, match="does not take device"):
        rf.load_router(device="cuda")
    with pytest.raises(rf.RouteLLMError, match="does not take threat"):
        rf.load_router(saved, threat=1)


def test_another_graph_is_not_calibrated(saved: Path) -> None:
    loaded = rf.load_router(saved)
    assert isinstance(loaded, BertRouter)
    assert loaded.with_model(loaded.onnx_graph()).calibration is not None
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(loaded.onnx_graph())
    model.producer_name = "other"
    assert loaded.with_model(model.SerializeToString()).calibration is None


def test_a_graph_that_is_not_the_routers_is_refused(saved: Path, router: BertRouter) -> None:
    whole = (saved / "model.onnx").read_bytes()
    (saved / "model.onnx").write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(rf.ArtifactIntegrityError, match=r"model\.onnx has sha256"):
        rf.load_router(saved)
    assert_refused(run_cli("route", "--router", str(saved), "hello"), "model.onnx has sha256")
    (saved / "model.onnx").unlink()
    with pytest.raises(rf.ArtifactNotFoundError, match=r"lacks model\.onnx"):
        rf.load_router(saved)
    with pytest.raises(rf.OnnxModelError, match="damaged or cut"):
        router.with_model(whole[:-50])


def test_a_foreign_graph_is_refused(router: BertRouter, tmp_path: Path) -> None:
    encoder = rf.OnnxEmbedder.load(encoder_folder(tmp_path / "e"))
    with pytest.raises(rf.OnnxModelError, match="the graph is another one"):
        router.with_model(encoder.model)


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_tokens": 32}, {"max_tokens": "32", "pad_id": 0}, {"max_tokens": 2, "pad_id": 0},
     {"max_tokens": 32, "pad_id": -1}, {"max_tokens": 32, "pad_id": 0, "more": 1}],
)  # fmt: skip
def test_wrong_settings_are_refused(settings: dict[str, object], saved: Path) -> None:
    manifest = editable_manifest(saved / "router.json")
    manifest["settings"] = settings
    (saved / "router.json").write_text(json.dumps(manifest))
    with pytest.raises(rf.ArtifactFormatError, match=r"max_tokens"):
        rf.load_router(saved)


def test_weights_that_are_not_finite_give_no_score(router: BertRouter) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(router.onnx_graph())
    tensor = next(t for t in model.graph.initializer if "classifier" in t.name and len(t.dims) == 1)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tuple(tensor.dims), np.nan, dtype=np.float32), tensor.name))
    with pytest.raises(rf.OnnxModelError, match="text 0 is not finite"):
        router.with_model(model.SerializeToString()).win_rates(PROMPTS)


def test_a_vocabulary_larger_than_the_models_is_an_error(router: BertRouter) -> None:
    words = [*WORDS, "surplus"]
    larger = BertRouter(
        router.onnx_graph(), wordpiece_json(words), max_tokens=32, pad_id=0, model_pair=rf.ModelPair("a", "b")
    )
    with pytest.raises(rf.OnnxModelError, match="the ONNX graph failed"):
        larger.win_rate("surplus")


def _without(name: str, folder: Path) -> None:
    (folder / name).unlink()


def _config(folder: Path, name: str = "config.json", **changes: object) -> None:
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("damage", "error", "text"),
    [
        (lambda folder: _without("config.json", folder), rf.ArtifactNotFoundError, "lacks config.json"),
        (lambda folder: _without("tokenizer.json", folder), rf.ArtifactNotFoundError, "lacks tokenizer.json"),
        (lambda folder: _without("model.safetensors", folder), rf.ArtifactFormatError, "model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), rf.ArtifactFormatError, "not valid JSON"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), rf.ArtifactFormatError, "could not be"),
        (lambda folder: _config(folder, id2label={"0": "no", "1": "yes"}), rf.ArtifactFormatError, "names 2 classes"),
        (
            lambda folder: _config(folder, "tokenizer_config.json", truncation_side="left"),
            rf.ArtifactFormatError,
            "cut on the left",
        ),
    ],
)
def test_folders_of_another_shape_are_refused(damage, error, text, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(error, match=text):
        BertRouter.from_pretrained(copy)


def test_an_encoder_without_a_classifier_is_refused(tmp_path: Path) -> None:
    path = encoder_folder(tmp_path / "encoder", pooling=None)
    _config(path, id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(rf.ArtifactFormatError, match=r"lacks classifier\.bias"):
        BertRouter.from_pretrained(path)
    with pytest.raises(rf.ArtifactNotFoundError, match="is no folder"):
        BertRouter.from_pretrained(tmp_path / "none")


def _encoder(**changes: object) -> TokenEncoder:
    return TokenEncoder(json.dumps({**json.loads(wordpiece_json()), **changes}).encode(), 8)


def test_special_tokens_stand_around_a_text() -> None:
    assert _encoder().encode(["hello the", ""]) == [[2, 7, 6, 3], [2, 3]]
    assert _encoder().encode(["a " * 20]) == [[2, *[11] * 6, 3]]
    assert _encoder(post_processor=None).encode(["hello"]) == [[7]]
    bert = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    assert _encoder(post_processor=bert).encode(["hello"]) == [[2, 7, 3]]
    both = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, bert]}
    assert _encoder(post_processor=both).encode(["hello"]) == [[2, 7, 3]]


@pytest.mark.parametrize(
    "processor",
    [{"type": "Other"}, {}, 7, {"type": "BertProcessing"}, {"type": "TemplateProcessing", "single": []},
     {"type": "BertProcessing", "sep": ["x", "y"], "cls": ["z", 1]},
     {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 1}}], "special_tokens": {}}],
)  # fmt: skip
def test_unknown_post_processors_are_refused(processor: object) -> None:
    with pytest.raises(rf.ArtifactFormatError, match="post_processor"):
        _encoder(post_processor=processor)
