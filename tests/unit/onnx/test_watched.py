"""Weights in files of their own, which ONNX Runtime maps, and which others change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_fast.errors import OnnxModelError
from routellm_fast.onnx import OnnxSession

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

IDS = np.arange(3000, dtype=np.int64)


def table() -> Any:
    """y = W[x]: ONNX Runtime reads a table where it is mapped, and copies other weights."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(len(IDS), 8)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node("Gather", ["w", "x"], ["y"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def beside(folder: Path) -> OnnxSession:
    """A graph with its weights in a file beside it."""
    onnx.save_model(table(), folder / "model.onnx", save_as_external_data=True, location="weights.bin")
    return OnnxSession(folder / "model.onnx", device="cpu")


def kept(folder: Path) -> OnnxSession:
    """A graph that was optimized and kept."""
    OnnxSession(table().SerializeToString(), device="cpu", optimized_cache=folder)
    return OnnxSession(table().SerializeToString(), device="cpu", optimized_cache=folder)


def weights_of(folder: Path) -> Path:
    (file,) = folder.rglob("weights.bin")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    return file


def change_a_byte(file: Path) -> None:
    with file.open("r+b") as out:
        out.seek(5000)
        out.write(b"\x55")


@pytest.mark.parametrize("make", [beside, kept])
@pytest.mark.parametrize("change", [change_a_byte, lambda file: os.truncate(file, 0)])
def test_weights_that_are_changed_in_place_are_named_and_not_computed_with(
    tmp_path: Path, make: Callable[[Path], OnnxSession], change: Callable[[Path], None]
) -> None:
    make(tmp_path)
    file = weights_of(tmp_path)
    session = make(tmp_path) if make is kept else OnnxSession(tmp_path / "model.onnx", device="cpu")
    expected = session.run({"x": IDS})["y"]
    np.testing.assert_array_equal(session.run({"x": IDS})["y"], expected)
    change(file)
    for _ in range(2):
        with pytest.raises(OnnxModelError, match=r"weights\.bin was changed in place while it is in use"):
            session.run({"x": IDS})


@pytest.mark.parametrize("make", [beside, kept])
def test_weights_that_are_replaced_or_removed_are_still_computed_with(
    tmp_path: Path, make: Callable[[Path], OnnxSession]
) -> None:
    session = make(tmp_path)
    expected = session.run({"x": IDS})["y"]
    file = weights_of(tmp_path).parent / "weights.bin"
    session = make(tmp_path) if make is kept else OnnxSession(tmp_path / "model.onnx", device="cpu")
    (file.parent / "new").write_bytes(bytes(file.stat().st_size))
    (file.parent / "new").replace(file)
    np.testing.assert_array_equal(session.run({"x": IDS})["y"], expected)
    shutil.rmtree(tmp_path)
    np.testing.assert_array_equal(session.run({"x": IDS})["y"], expected)


def test_a_session_that_is_dropped_closes_its_files(tmp_path: Path) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    session = beside(tmp_path)
    before = count()
    del session
    assert count() == before - 1
