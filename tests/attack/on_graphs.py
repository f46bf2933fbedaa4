"""ONNX graphs that somebody changed, at random or on purpose, loaded and run as a bert router's."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.attack.harness import Attack, Campaign

_BERT: Final = Path(__file__).parents[1] / "artifacts" / "v1" / "bert"
_PROMPTS: Final = ("prove the hello", "", "a b c " * 9)
# Far from a real graph's needs here, so that one that takes more is seen.
_TENSOR_BYTES: Final = 128 << 20
_PROCESS_BYTES: Final = 3 << 30
_RUN_TIMEOUT_S: Final = 2.0
# Loading and three runs under their deadlines, and operators that end after them, on a busy machine.
_HANG_S: Final = 60.0
_GRAPHS_A_CHILD: Final = 40
_HUGE: Final = (-(1 << 63), -(1 << 31), -1, 0, 1, 2, 7, 1 << 12, 1 << 20, 1 << 31, 1 << 33, 1 << 40, (1 << 63) - 1)


def _flipped(model: bytes, rng: random.Random) -> bytes:
    changed = bytearray(model)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.05 else changed)


def _built(model: bytes, rng: random.Random) -> bytes:
    """Change a graph as one who knows ONNX would: another operator, wiring, attribute, shape or constant."""
    import onnx

    from routellm_fast.onnx import admission

    operators = sorted(admission._STANDARD)
    found = onnx.load_model_from_string(model)
    graph = found.graph
    names = [name for node in graph.node for name in (*node.input, *node.output) if name]
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        node = rng.choice(graph.node)
        what = rng.randrange(9)
        if what == 0:
            node.op_type = rng.choice(operators)
        elif what == 1 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif what == 2 and node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = rng.choice(_HUGE)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_HUGE)
        elif what == 3 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            wide = tensor.data_type == onnx.TensorProto.INT64
            array = np.empty(0)
            with contextlib.suppress(ValueError):  # an earlier change broke it
                array = np.array(onnx.numpy_helper.to_array(tensor))
            if array.size:
                chosen = rng.choice(_HUGE) if wide else rng.choice((0, 1, 100, -1))
                array.reshape(-1)[rng.randrange(array.size)] = np.array(chosen).astype(array.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        elif what == 4 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_HUGE)
        elif what == 5:
            _grow(graph, node, rng)
        elif what == 6:
            _add_foreign(graph, rng)
        elif what == 7:
            graph.node.append(node)
        else:
            found.opset_import[0].version = rng.choice((1, 7, 9, 11, 13, 17, 20, 21, 99))
    return bytes(found.SerializeToString())


def _grow(graph: Any, node: Any, rng: random.Random) -> None:
    """Put an operator that makes large tensors before an input of a node."""
    from onnx import helper

    if not node.input:
        return
    place = rng.randrange(len(node.input))
    shape = [rng.choice(_HUGE) for _ in range(rng.choice((1, 2, 3)))]
    graph.initializer.append(helper.make_tensor("grown_shape", 7, [len(shape)], shape))
    operator = rng.choice(("ConstantOfShape", "Expand", "Tile", "Reshape", "Pad", "Range", "OneHot", "Gather"))
    inputs = {"ConstantOfShape": ["grown_shape"], "Range": ["grown_shape"] * 3, "OneHot": ["grown_shape"] * 3}
    made = helper.make_node(operator, inputs.get(operator, [node.input[place], "grown_shape"]), ["grown"])
    rest = list(graph.node)
    at = next(index for index, other in enumerate(rest) if other is node or other == node)
    node.input[place] = "grown"
    rest.insert(at, made)
    del graph.node[:]
    graph.node.extend(rest)


def _add_foreign(graph: Any, rng: random.Random) -> None:
    """Add an operator that is not allowed."""
    from onnx import helper

    operator, domain = rng.choice((
        ("Loop", ""), ("Scan", ""), ("If", ""), ("SequenceEmpty", ""), ("Optional", ""), ("RandomUniform", ""),
        ("LSTM", ""), ("StringNormalizer", ""), ("Own", "own"), ("Imputer", "ai.onnx.ml"), ("Trainer", "com.microsoft"),
    ))  # fmt: skip
    graph.node.insert(rng.randrange(len(graph.node) + 1), helper.make_node(operator, [], ["foreign"], domain=domain))


def _hostile(_: bytes, rng: random.Random) -> bytes:
    from tests.support import graphs

    size = rng.choice((1, 1 << 10, 1 << 22, 1 << 30, 1 << 34, 1 << 62))
    makers: list[Callable[[], bytes]] = [
        *graphs.HOSTILE.values(),
        lambda: graphs.loop(size),
        lambda: graphs.branch(rng.randrange(1, 30)),
        lambda: graphs.constant_of([size]),
        lambda: graphs.constant_of([size, size]),
        lambda: graphs.chain_of([min(size, 1 << 34)], rng.choice((1, 3, 300))),
        lambda: graphs.grown(size),
        lambda: graphs.slow(rng.choice((3, 2000)), min(size, 1 << 20)),
    ]
    return rng.choice(makers)()


def _try(model: bytes) -> str:
    """Load a graph and run it; return what happened."""
    import routellm_fast as rf
    from routellm_fast.onnx import SessionOptions
    from routellm_fast.routers.bert import BertRouter

    try:
        router = BertRouter(
            model,
            (_BERT / "tokenizer.json").read_bytes(),
            max_tokens=32,
            pad_id=0,
            model_pair=rf.ModelPair("strong", "weak"),
            options=SessionOptions(device="cpu", threads=1, run_timeout_s=_RUN_TIMEOUT_S),
        )
    except rf.OnnxModelError as error:
        return "refused by this package" if "refused by ONNX Runtime" not in str(error) else "refused by ONNX Runtime"
    try:
        found = router.win_rates(_PROMPTS)
    except rf.OnnxModelError as error:
        return "stopped at the deadline" if "was stopped after" in str(error) else "failed with a named error"
    assert found.shape == (len(_PROMPTS),), f"win rates of shape {found.shape}"
    assert ((found >= 0) & (found <= 1)).all(), f"win rates {found}"
    return "gave win rates in [0, 1]"


def _in_children(models: list[bytes]) -> Iterator[str]:
    """Try all graphs in forked children; one that a signal ends costs its graph only."""
    import onnxruntime  # noqa: F401 - once for all children

    done = 0
    while done < len(models):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _work(models[done : done + _GRAPHS_A_CHILD], reader, writer)
        os.close(writer)
        try:
            until = min(done + _GRAPHS_A_CHILD, len(models))
            for what in _answers(reader):
                done += 1
                yield what
            if done < until:
                _, status = os.waitpid(child, 0)
                child = 0
                assert os.WIFSIGNALED(status), f"graph {done} ended its process with status {status}"
                done += 1
                yield f"ended the process by {signal.Signals(os.WTERMSIG(status)).name}"
        finally:
            os.close(reader)
            if child:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _work(models: list[bytes], reader: int, writer: int) -> None:
    """Try graphs in a child, and write a line of each."""
    status = 1
    try:
        from routellm_fast.onnx import _memory

        os.close(reader)
        with Path(os.devnull).open("wb") as silence:
            os.dup2(silence.fileno(), 2)
        _memory._MOST_BYTES = _TENSOR_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (_PROCESS_BYTES, _PROCESS_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for model in models:
            try:
                what = _try(model)
            except BaseException as error:  # noqa: BLE001 - anything else than a named error is a breach
                what = f"BREACH {type(error).__name__}: {error}"
            os.write(writer, what.replace("\n", " ").encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


def _answers(reader: int) -> Iterator[str]:
    """Yield lines until the child closes its end. Raises AssertionError where one takes too long."""
    pending = b""
    while True:
        ready, _, _ = select.select([reader], [], [], _HANG_S)
        assert ready, f"a graph was not done within {_HANG_S:g} s"
        found = os.read(reader, 1 << 16)
        if not found:
            return
        *lines, pending = (pending + found).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def _attack(campaign: Campaign, change: Callable[[bytes, random.Random], bytes]) -> None:
    models = _bases(campaign)
    left = campaign.count
    while left:
        batch = []
        while len(batch) < min(left, 400):
            batch.append(change(campaign.rng.choice(models), campaign.rng))
        for number, what in enumerate(_in_children(batch)):
            kept = campaign.folder / "breach.onnx"
            kept.write_bytes(batch[number])
            assert not what.startswith("BREACH"), what
            campaign.tally[what] += 1
            ended = sum(times for name, times in campaign.tally.items() if name.startswith("ended"))
            tried = campaign.tally.total()
            assert ended <= max(2, campaign.count // 500), f"{ended} graphs of {tried} ended their process"
        left -= len(batch)


def _bases(campaign: Campaign) -> list[bytes]:
    from tests.support import graphs

    models = [(_BERT / "model.onnx").read_bytes(), graphs.layer()]
    if campaign.count >= 1000:
        # What torch exports of a real classifier takes seconds to make.
        from routellm_fast.onnx.classifier import export_classifier
        from tests.support.transformer_builders import classifier_folder

        models.append(export_classifier(classifier_folder(campaign.folder / "bert")).model)
    return models


def _flip(campaign: Campaign) -> None:
    _attack(campaign, _flipped)


def _build(campaign: Campaign) -> None:
    _attack(campaign, lambda model, rng: (_hostile if rng.random() < 0.2 else _built)(model, rng))


_HELD: Final = (
    "each graph is refused by name, or fails with a named error, or is stopped at its deadline, or gives win rates in "
    "[0, 1]; none hangs, none takes memory without end. ONNX Runtime itself may end the process on one in 500: "
    "these are counted."
)
ATTACKS = [
    Attack(
        name="ONNX graphs with flipped bits",
        tried="up to 16 bits of a graph are flipped, or it is cut; no digest guards it here, as one does in a router's "
        "directory.",
        held=_HELD,
        unit="graphs",
        whole=5_000,
        brief=80,
        run=_flip,
    ),
    Attack(
        name="ONNX graphs made to harm",
        tried="operators, wiring, attributes, shapes and constants of a graph are changed; or it is a loop, a call, a "
        "branch, or a tensor of any size.",
        held=_HELD,
        unit="graphs",
        whole=10_000,
        brief=80,
        run=_build,
    ),
]
