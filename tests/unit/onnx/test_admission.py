from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError, OnnxModelError
from routellm_fast.onnx import OnnxSession, SessionOptions
from routellm_fast.onnx._deadlines import deadline
from routellm_fast.onnx._memory import available_bytes
from routellm_fast.onnx.admission import MOST_NODES, admit
from routellm_fast.routers.bert import BertRouter

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from tests.support import graphs  # noqa: E402
from tests.support.transformer_builders import wordpiece_json  # noqa: E402

PAIR = ModelPair("strong", "weak")
ONES = {"input_ids": np.ones((2, 4), np.int64), "attention_mask": np.ones((2, 4), np.int64)}


def bert(model: bytes, **options: Any) -> BertRouter:
    return BertRouter(
        model,
        wordpiece_json(),
        max_tokens=16,
        pad_id=0,
        model_pair=PAIR,
        options=SessionOptions(device="cpu", threads=1, **options),
    )


def test_what_cannot_hold_up_a_process_is_run() -> None:
    assert admit(graphs.sound()).nodes == 3
    assert bert(graphs.sound()).win_rate("hello") > 0


@pytest.mark.parametrize("what", graphs.HOSTILE)
def test_what_can_is_refused_by_name(what: str, tmp_path: Path) -> None:
    model = graphs.HOSTILE[what]()
    with pytest.raises(OnnxModelError, match=f"(?s){what.removesuffix('-deep')}.*allow_any_graph=True"):
        OnnxSession(model, device="cpu")
    path = tmp_path / "model.onnx"
    path.write_bytes(model)
    with pytest.raises(OnnxModelError, match=rf"model\.onnx: .*{what.removesuffix('-deep')}"):
        OnnxSession(path, device="cpu")


def test_every_door_is_guarded(tmp_path: Path) -> None:
    endless = graphs.loop(1 << 62)
    with pytest.raises(OnnxModelError, match="Loop"):
        bert(endless)
    with pytest.raises(OnnxModelError, match="Loop"):
        bert(graphs.sound()).with_model(endless)
    with pytest.raises(OnnxModelError, match="Loop"):
        rf.OnnxEmbedder(endless, wordpiece_json(), name="e", max_tokens=16, pad_id=0)
    router = bert(endless, allow_any_graph=True)  # loaded, never run
    router.save(tmp_path / "r")
    with pytest.raises(OnnxModelError, match="'Loop'"):
        rf.load_router(tmp_path / "r")
    assert rf.load_router(tmp_path / "r", allow_any_graph=True).kind == "bert"
    assert router.onnx_graph() == endless


def test_a_graph_of_ones_own_runs_when_it_is_allowed() -> None:
    assert bert(graphs.loop(1), allow_any_graph=True).win_rate("hello") > 0
    assert bert(graphs.branch(), allow_any_graph=True).win_rate("hello") > 0


def test_a_loop_that_was_allowed_ends_at_the_deadline() -> None:
    router = bert(graphs.loop(1 << 62), allow_any_graph=True, run_timeout_s=1.0)
    with pytest.raises(OnnxModelError, match=r"stopped after 1 s"):
        router.win_rate("hello")


def test_runs_end_at_the_deadline_and_later_ones_work() -> None:
    session = OnnxSession(graphs.slow(1000, 1_000_000), device="cpu", threads=1, run_timeout_s=2.0)
    for _ in range(2):
        with pytest.raises(OnnxModelError, match=r"stopped after 2 s.*run_timeout_s"):
            session.run(ONES)
    unlimited = OnnxSession(graphs.slow(4, 5), device="cpu", threads=1, run_timeout_s=None)
    assert unlimited.run(ONES)["win_rate"].shape == (2,)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "5", True])
def test_a_deadline_is_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="run_timeout_s"):
        SessionOptions(run_timeout_s=value)
    with pytest.raises(InvalidArgumentError, match="allow_any_graph"):
        SessionOptions(allow_any_graph="yes")  # type: ignore[arg-type]


LIMITED = """
import resource, sys
import numpy as np
from routellm_fast.onnx import _memory
_memory._MOST_BYTES = 64 << 20
from routellm_fast.onnx import OnnxSession
from routellm_fast.errors import OnnxModelError
from tests.support import graphs
ones = {"input_ids": np.ones((2, 4), np.int64), "attention_mask": np.ones((2, 4), np.int64)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for model in (graphs.grown(1 << 14), graphs.constant_of([1 << 32]), graphs.constant_of([1 << 26])):
    session = OnnxSession(model, device="cpu", threads=1)
    try:
        session.run(ones)
    except OnnxModelError as error:
        print("refused", "failed on inputs of shapes" in str(error))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000)
print(OnnxSession(graphs.sound(), device="cpu", threads=1).run(ones)["win_rate"].tolist())
"""


def test_tensors_have_a_limit_of_memory() -> None:
    found = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert found.stdout.splitlines() == ["refused True"] * 3 + ["True", "[0.5, 0.5]"], found.stderr


def test_memory_is_the_control_groups_where_it_has_less(tmp_path: Path) -> None:
    machine = available_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) == machine > 1 << 20
    (tmp_path / "memory.max").write_text("1048576\n")
    assert available_bytes(tmp_path) == 1 << 20


def saved_with_weights(folder: Path, weights: int = 8) -> Path:
    folder.mkdir()
    model = graphs.text_graph(
        [*graphs.MEAN, graphs.node("ReduceMean", ["w"], ["m"], keepdims=0),
         graphs.node("Mul", ["mean", "m"], ["win_rate"])],
        [onnx.numpy_helper.from_array(np.full(weights, 0.5, np.float32), "w")],
    )  # fmt: skip
    onnx.save_model(model, folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "model.onnx"


def elsewhere(path: Path, **entries: str) -> None:
    model = onnx.load_model(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())


def test_weights_beside_a_graph_are_read(tmp_path: Path) -> None:
    path = saved_with_weights(tmp_path / "m")
    assert OnnxSession(path, device="cpu").run(ONES)["win_rate"].tolist() == [0.5, 0.5]
    # As download caches keep them: links to files that lie elsewhere, side by side.
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for name in ("model.onnx", "w.bin"):
        (cache / name).symlink_to(path.parent / name)
    assert admit(cache / "model.onnx").nodes == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"location": "../w.bin"}, "below the graph's own folder"),
        ({"location": "/etc/passwd"}, "below the graph's own folder"),
        ({"location": "sub/../../w.bin"}, "below the graph's own folder"),
        ({"location": "none.bin"}, "cannot be read"),
        ({"location": "linked"}, "leads out of the graph's folder"),
        ({"location": "a\0b"}, "below the graph's own folder"),
        ({"location": "."}, "leads out|expected|need"),
        ({"offset": "16"}, "need 32 bytes"),
        ({"offset": "-8"}, "need 32 bytes"),
        ({"length": "9999999999"}, "need 32 bytes"),
        ({"offset": "many"}, "are integers"),
    ],
)
def test_weights_elsewhere_are_refused(change: dict[str, str], reason: str, tmp_path: Path) -> None:
    path = saved_with_weights(tmp_path / "m")
    (tmp_path / "w.bin").write_bytes(bytes(64))
    (path.parent / "linked").symlink_to(tmp_path / "w.bin")
    elsewhere(path, **change)
    with pytest.raises(OnnxModelError, match=reason):
        OnnxSession(path, device="cpu")


def weights(**changes: Any) -> bytes:
    tensor = onnx.numpy_helper.from_array(np.zeros((2, 3), np.float32), "w")
    for name, value in changes.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        else:
            setattr(tensor, name, value)
    return graphs.text_graph(graphs.HALF, [graphs.HALF_WEIGHT, tensor]).SerializeToString()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dims": [1 << 40, 1 << 40]}, "more than a file holds"),
        ({"dims": [2, -3]}, "none negative"),
        ({"dims": [1] * 9}, "at most 8"),
        ({"dims": [2, 4]}, "need 32 bytes, found 24"),
        ({"raw_data": b""}, "found 0 bytes"),
        ({"data_type": 8}, "type 8"),
        ({"data_type": 99}, "type 99"),
    ],
)
def test_weights_are_as_large_as_they_say(changes: dict[str, Any], reason: str) -> None:
    assert admit(weights())
    with pytest.raises(OnnxModelError, match=reason):
        admit(weights(**changes))


def test_the_number_of_operators_is_bounded() -> None:
    nodes = [*graphs.HALF, *(graphs.node("Neg", ["mean"], [f"n{i}"]) for i in range(MOST_NODES))]
    with pytest.raises(OnnxModelError, match="more than 50,000 operators"):
        admit(graphs.text_graph(nodes, [graphs.HALF_WEIGHT]).SerializeToString())


def test_operators_out_of_order_are_refused() -> None:
    nodes = [graphs.node("Mul", ["mean", "half"], ["win_rate"]), *graphs.MEAN]
    with pytest.raises(OnnxModelError, match="not in order"):
        admit(graphs.text_graph(nodes, [graphs.HALF_WEIGHT]).SerializeToString())


@pytest.mark.parametrize("graph", [b"\x0a", b"\x3a" + b"\xff" * 9 + b"\x7f", b"\x38\x01", b"\x02\x00", b"\x3b\x00"])
def test_bytes_that_are_no_message_are_refused(graph: bytes) -> None:
    with pytest.raises(OnnxModelError, match="damaged"):
        admit(graph)


LIES: dict[str, Callable[[], bytes]] = {
    "above": lambda: graphs.text_graph(
        [*graphs.MEAN, graphs.node("Mul", ["mean", "w"], ["win_rate"])], [graphs.float32("w", 37.0)]
    ).SerializeToString(),
    "rank": lambda: graphs.text_graph(
        [*graphs.MEAN, graphs.node("Expand", ["mean", "s"], ["win_rate"])], [graphs.int64("s", 3, 1)]
    ).SerializeToString(),
    "rows": lambda: graphs.text_graph(
        [*graphs.MEAN, graphs.node("Concat", ["mean", "mean"], ["win_rate"], axis=0)]
    ).SerializeToString(),
    "none": lambda: graphs.text_graph(
        [*graphs.MEAN, graphs.node("Slice", ["mean", "z", "z"], ["win_rate"])], [graphs.int64("z", 0)]
    ).SerializeToString(),
    "scalar": lambda: graphs.text_graph(
        [*graphs.MEAN, graphs.node("ReduceMax", ["mean"], ["win_rate"], keepdims=0)]
    ).SerializeToString(),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_what_a_graph_gives_is_checked_against_what_it_says(lie: str) -> None:
    with pytest.raises(OnnxModelError, match="win rate of prompt 0 is|has the shape|is another one"):
        bert(LIES[lie]()).win_rates(["hello"])


def test_one_thread_watches_all_deadlines() -> None:
    before = threading.active_count()
    stopped: list[int] = []
    with deadline(60.0, lambda: stopped.append(0)) as long, deadline(0.05, lambda: stopped.append(1)) as short:
        until_s = time.monotonic() + 30
        while not stopped and time.monotonic() < until_s:
            time.sleep(0.01)
        assert threading.active_count() <= before + 1
    assert stopped == [1]
    assert long is not None
    assert short is not None
    assert (long.is_late, short.is_late) == (False, True)
    with deadline(None, lambda: stopped.append(2)) as never:
        assert never is None
