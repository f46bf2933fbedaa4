"""Plans are built without a GPU, which TensorRT-RTX can; nothing here runs one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import cli
from routellm_fast.errors import EngineBuildError, ForeignExportError, InvalidArgumentError, MissingExtraError
from tests.support.builders import mf_router

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from routellm_fast.export import export_tensorrt, router_digest, tensorrt_engine, tensorrt_export  # noqa: E402

RTX = "tensorrt_rtx"
needs_rtx = pytest.mark.skipif(
    not any((Path(entry) / RTX).is_dir() for entry in __import__("sys").path), reason="needs tensorrt-rtx-cu13"
)


@needs_rtx
@pytest.mark.parametrize(
    ("inputs", "precision", "layer_type"),
    [
        ("tokens", "float32", "FLOAT"),
        ("embeddings", "float16", "HALF"),
        ("embeddings", "bfloat16", "BF16"),
        ("embeddings", "int8-static", "INT8"),
    ],
)
def test_a_plan_is_built_and_its_precision_found(tmp_path: Path, inputs: str, precision: str, layer_type: str) -> None:
    router, out = tmp_path / "router", tmp_path / "out"
    mf_router().save(router)
    report = export_tensorrt(
        router, out, inputs=inputs, precision=precision, runtime=RTX, prompts=["prove the", "hello a b c"], bound=0.1
    )
    engine = json.loads((out / "engine.json").read_text())
    assert engine["network_types"][layer_type] >= 1
    assert engine["plan_sha256"] == hashlib.sha256((out / "model.plan").read_bytes()).hexdigest()
    assert engine["router_digest"] == report.router_digest == router_digest(router)
    names = {"input_ids", "attention_mask", "surface_features"} if inputs == "tokens" else {"embeddings"}
    assert set(engine["profiles"]) == names
    assert {path.name for path in out.iterdir()} == {"model.onnx", "model.plan", "engine.json", "export-report.json"}


@needs_rtx
def test_an_engine_is_built_once_and_a_damaged_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    router, cache = tmp_path / "router", tmp_path / "cache"
    mf_router().save(router)
    built = []
    build = tensorrt_export.build_engine
    monkeypatch.setattr(tensorrt_export, "build_engine", lambda *a, **k: built.append(k) or build(*a, **k))
    for damage in (False, False, True):
        if damage:
            damaged = next(cache.glob("*.engine"))
            damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
        export_tensorrt(router, tmp_path / "out", inputs="embeddings", runtime=RTX, cache=cache)
    export_tensorrt(router, tmp_path / "out", inputs="embeddings", runtime=RTX, cache=cache, batch=(1, 2, 4))
    assert len(built) == 3
    assert len(list(cache.glob("*.engine"))) == 2


@needs_rtx
def test_a_plan_of_another_router_or_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    router, other, out = tmp_path / "router", tmp_path / "other", tmp_path / "out"
    mf_router().save(router)
    mf_router().for_pair("weak-model", "other-model").save(other)
    export_tensorrt(router, out, inputs="embeddings", runtime=RTX)
    assert tensorrt_export.check_plan(out, router)["precision"] == "float32"
    with pytest.raises(ForeignExportError, match="router_digest"):
        tensorrt_export.check_plan(out, other)
    manifest = json.loads((out / "engine.json").read_text())
    manifest["gpu"] = {"name": "another GPU", "compute_capability": "8.9", "driver": 13000}
    (out / "engine.json").write_text(json.dumps(manifest))
    with pytest.raises(ForeignExportError, match="another GPU"):
        tensorrt_export.check_plan(out, router)
    (out / "model.plan").write_bytes(b"cut")
    with pytest.raises(ForeignExportError, match="plan_sha256"):
        tensorrt_export.check_plan(out, router)


@needs_rtx
def test_graphs_that_cannot_be_built(tmp_path: Path) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"no graph")
    with pytest.raises(EngineBuildError, match="cannot parse"):
        tensorrt_engine.build_engine(damaged, {}, runtime=RTX)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [value], [result])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), damaged)
    with pytest.raises(InvalidArgumentError, match="give least, usual and largest"):
        tensorrt_engine.build_engine(damaged, {}, runtime=RTX)
    with pytest.raises(InvalidArgumentError, match="fit the graph"):
        tensorrt_engine.build_engine(damaged, {"x": ((2, 3), (1, 3), (4, 3))}, runtime=RTX)
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float16), "unused"))
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8), damaged)
    with pytest.raises(EngineBuildError, match="another precision"):
        tensorrt_engine.build_engine(damaged, {"x": ((1, 3), (2, 3), (4, 3))}, runtime=RTX)


@needs_rtx
def test_a_length_is_refused_where_no_tokens_are_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="this one reads embeddings: leave it out"):
        export_tensorrt("mf", tmp_path / "out", inputs="embeddings", runtime=RTX, length=(1, 64, 512))
    assert not (tmp_path / "out").exists()


def test_without_tensorrt_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} {extra}")

    monkeypatch.setattr(tensorrt_engine, "require", missing)
    with pytest.raises(MissingExtraError, match="pip install tensorrt-rtx-cu13"):
        tensorrt_engine.tensorrt_module()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"precision": "int8"}, "TensorRT's precision is one of"),
        ({"batch": (4, 2, 8)}, "batch needs 1 <= least"),
        ({"length": (0, 2, 8)}, "length needs 1 <= least"),
        ({"runtime": "cuda"}, "the runtime must be one of"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        export_tensorrt("mf", tmp_path / "out", **options)  # type: ignore[arg-type]


@needs_rtx
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    router, out = tmp_path / "router", str(tmp_path / "out")
    mf_router().save(router)
    arguments = ["export", "tensorrt", str(router), out, "--runtime", RTX, "--batch", "1", "2", "4"]
    assert cli.main(arguments) == 0
    assert "mf from tokens, float32" in capsys.readouterr().out
    assert cli.main([*arguments, "--precision", "fp8"]) == 2
