from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from routellm_fast.errors import (
    ArtifactNotFoundError,
    InvalidArgumentError,
    MissingExtraError,
    OnnxModelError,
    ProviderUnavailableError,
)
from routellm_fast.onnx import OnnxSession, session
from routellm_fast.threads import available_threads

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def graph(op: str = "MatMul", *, metadata: dict[str, str] | None = None) -> Any:
    """y = x W, with W (3, 400) so that it is worth a file of its own."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(3, 400)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 400])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    return model


def content(**arguments: Any) -> bytes:
    return graph(**arguments).SerializeToString()


def test_a_graph_runs_and_tells_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content(metadata={"kind": "test"}))
    found = OnnxSession(path, device="cpu", threads=1)
    assert found.providers == ("CPUExecutionProvider",)
    assert found.inputs == {"x": ("float32", ("n", 3))}
    assert found.outputs == {"y": ("float32", ("n", 400))}
    assert found.metadata == {"kind": "test"}
    np.testing.assert_array_equal(found.run({"x": X})["y"], OnnxSession(path.read_bytes()).run({"x": X})["y"])


@pytest.mark.parametrize(
    "broken", [b"", b"no onnx at all", content()[:-200], b"\x00" * 100], ids=["empty", "text", "cut", "zeros"]
)
def test_damaged_graphs_are_refused(broken: bytes, tmp_path: Path) -> None:
    with pytest.raises(OnnxModelError, match="damaged"):
        OnnxSession(broken, device="cpu")
    with pytest.raises(OnnxModelError, match="refused by ONNX Runtime"):
        OnnxSession(broken, device="cpu", allow_any_graph=True)
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken)
    with pytest.raises(OnnxModelError, match=r"broken\.onnx"):
        OnnxSession(path, device="cpu")


def test_graphs_of_unknown_operators_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OnnxModelError, match="Frobnicate"):
        OnnxSession(content(op="Frobnicate"))
    with pytest.raises(ArtifactNotFoundError, match="is no file"):
        OnnxSession(tmp_path / "none.onnx")


def test_a_graph_in_memory_reads_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph()
    monkeypatch.chdir(tmp_path)
    onnx.save_model(model, "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    beside = OnnxSession(tmp_path / "model.onnx").run({"x": X})["y"]
    np.testing.assert_array_equal(beside, OnnxSession(content()).run({"x": X})["y"])
    with pytest.raises(OnnxModelError):
        OnnxSession((tmp_path / "model.onnx").read_bytes())


@pytest.mark.parametrize(
    "inputs",
    [{}, {"x": X, "z": X}, {"z": X}, {"x": X.astype(np.float64)}, {"x": X[:, :2]}, {"x": X[0]}],
    ids=["none", "more", "other", "float64", "narrow", "flat"],
)
def test_wrong_inputs_are_named(inputs: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="x"):
        OnnxSession(content(), device="cpu").run(inputs)


def test_options_are_checked() -> None:
    with pytest.raises(InvalidArgumentError, match="a device is one of auto, cpu"):
        OnnxSession(content(), device="tpu")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="threads must be at least 1"):
        OnnxSession(content(), threads=0)


def test_a_missing_runtime_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install .\.\[onnx\]"):
        OnnxSession(content())


class FakeRuntime:
    """ONNX Runtime with GPU support, on a machine where CUDA starts or falls back silently."""

    __version__ = "1.0"

    def __init__(self, *, works: bool, raises: bool = False) -> None:
        self.works, self.raises, self.asked = works, raises, []

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def SessionOptions(self) -> Any:
        return SimpleNamespace(add_session_config_entry=lambda key, value: None)

    OrtArenaCfg = OrtMemoryInfo = create_and_register_allocator = staticmethod(lambda *arguments: None)
    OrtAllocatorType = SimpleNamespace(ORT_ARENA_ALLOCATOR=None)
    OrtMemType = SimpleNamespace(DEFAULT=None)

    def InferenceSession(
        self, model: Any, settings: Any, providers: list[tuple[str, dict[str, str]]], enable_fallback: int
    ) -> Any:
        assert not enable_fallback
        names = [name for name, _ in providers]
        self.asked.append(names)
        if self.raises and "CUDAExecutionProvider" in names:
            raise RuntimeError("libcudart.so is missing")
        found = names if self.works else ["CPUExecutionProvider"]
        return SimpleNamespace(get_providers=lambda: found, get_inputs=list, get_outputs=list)


@pytest.mark.parametrize("raises", [False, True], ids=["silent", "raising"])
def test_falling_back_to_the_cpu_is_an_error_unless_allowed(raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = FakeRuntime(works=False, raises=raises)
    monkeypatch.setattr(session, "require", lambda module, extra: runtime)
    with pytest.raises(ProviderUnavailableError, match=r"'cuda' cannot be used.*pip install onnxruntime-gpu"):
        OnnxSession(content(), device="cuda")
    assert OnnxSession(content(), device="cuda", allow_fallback=True).providers == ("CPUExecutionProvider",)
    assert OnnxSession(content(), device="auto").providers == ("CPUExecutionProvider",)
    with pytest.raises(ProviderUnavailableError, match="this onnxruntime lacks TensorrtExecutionProvider"):
        OnnxSession(content(), device="tensorrt")


def test_auto_takes_cuda_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "require", lambda module, extra: FakeRuntime(works=True))
    assert OnnxSession(content()).providers[0] == "CUDAExecutionProvider"
    assert OnnxSession(content(), device="cpu").providers == ("CPUExecutionProvider",)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ProviderUnavailableError, match="cannot be used"):
        OnnxSession(content(), device="tensorrt")
    assert OnnxSession(content(), device="tensorrt", allow_fallback=True).providers == ("CPUExecutionProvider",)


def test_optimized_graphs_are_kept_and_give_the_same_bits(tmp_path: Path) -> None:
    plain = OnnxSession(content(), device="cpu").run({"x": X})["y"]
    for _ in range(2):
        found = OnnxSession(content(), device="cpu", optimized_cache=tmp_path)
        np.testing.assert_array_equal(found.run({"x": X})["y"], plain)
    (kept,) = tmp_path.iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["checksums.json", "graph.onnx", "weights.bin"]
    OnnxSession(content(metadata={"a": "b"}), device="cpu", optimized_cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["graph.onnx", "weights.bin", "checksums.json"])
def test_damaged_optimized_graphs_are_made_again(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = OnnxSession(content(), device="cpu", optimized_cache=tmp_path).run({"x": X})["y"]
    (kept,) = tmp_path.iterdir()
    whole = (kept / name).read_bytes()
    (kept / name).write_bytes(whole[:-4] + b"\x00\x00\x00\x00")
    with caplog.at_level(logging.WARNING):
        again = OnnxSession(content(), device="cpu", optimized_cache=tmp_path).run({"x": X})["y"]
    np.testing.assert_array_equal(again, plain)
    assert "made again" in caplog.text
    assert (kept / name).read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_no_session(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    found = OnnxSession(content(), device="cpu", optimized_cache=tmp_path / "file" / "cache")
    assert found.run({"x": X})["y"].shape == (2, 400)
    assert "could not be kept" in caplog.text


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "rubbish"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_threads_come_from_the_control_group(files: dict[str, str], most: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    everything = available_threads(tmp_path / "none")
    assert everything >= 1
    assert available_threads(tmp_path) == min(everything, most or everything)


def test_runs_bound_to_memory_give_what_plain_runs_give() -> None:
    """On the CPU, where nothing is captured: what is tested is that memory is bound once a shape, and written anew."""
    import onnxruntime

    from routellm_fast.onnx.captured import CapturedRuns

    plain = onnxruntime.InferenceSession(content(), providers=["CPUExecutionProvider"])
    captured = CapturedRuns(plain, onnxruntime, device="cpu", max_shapes=2)
    random = np.random.default_rng(0)
    kept = []
    for rows in (2, 2, 5, 2, 7, 5):
        x = random.normal(size=(rows, 3)).astype(np.float32)
        (found,) = captured.run({"x": x})
        kept.append((found, plain.run(None, {"x": x})[0]))
    for found, expected in kept:
        np.testing.assert_array_equal(found, expected)  # the first ones too: an output is a copy
    assert captured.shape_count == 2


def test_cuda_graphs_are_for_cuda() -> None:
    with pytest.raises(InvalidArgumentError, match="cuda_graphs needs the device cuda"):
        OnnxSession(content(), device="cpu", cuda_graphs=True)
    options = session.SessionOptions(device="cuda", cuda_graphs=True)
    assert session._provider_options("CUDAExecutionProvider", options, {}) == {
        "use_tf32": "0",
        "enable_cuda_graph": "1",
    }
    found = OnnxSession(content(), device="auto", cuda_graphs=True)  # no GPU here: the CPU runs it as it is
    assert found.replays == (found.providers[0] == "CUDAExecutionProvider")


def test_texts_are_padded_to_few_shapes_where_each_is_captured() -> None:
    from routellm_fast.onnx.text_graph import rows_of

    assert [rows_of(count) for count in (1, 2, 4, 5, 16, 17, 64, 200, 256, 300)] == [
        1,
        4,
        4,
        16,
        16,
        64,
        64,
        256,
        256,
        300,
    ]
