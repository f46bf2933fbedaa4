"""ONNX graphs that are no router's: loops, files elsewhere, tensors without end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node


def int64(name: str, *values: int, scalar: bool = False) -> Any:
    return onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [] if scalar else [len(values)], values)


def float32(name: str, *values: float) -> Any:
    return onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [len(values)], values)


def text_graph(
    nodes: Sequence[Any],
    weights: Sequence[Any] = (),
    *,
    output: str = "win_rate",
    rank: int = 1,
    width: int | str = "width",
    functions: Sequence[Any] = (),
    domains: Mapping[str, int] | None = None,
) -> Any:
    """Return a model from input_ids and attention_mask to an output."""
    helper = onnx.helper
    inputs = [
        helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    shape = ["texts", width][:rank]
    graph = helper.make_graph(
        list(nodes), "g", inputs, [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)], list(weights)
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in {"": 17, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


# The mean of the mask: 1.0 where nothing is padded.
MEAN = (
    node("Cast", ["attention_mask"], ["mask"], to=1),
    node("ReduceMean", ["mask"], ["mean"], axes=[1], keepdims=0),
)  # fmt: skip
HALF = (*MEAN, node("Mul", ["mean", "half"], ["win_rate"]))
HALF_WEIGHT = float32("half", 0.5)


def sound() -> bytes:
    return text_graph(HALF, [HALF_WEIGHT]).SerializeToString()


def layer() -> bytes:
    """A classifier of one attention layer, of the operators that torch exports, with random weights."""
    import numpy as np

    rng = np.random.default_rng(0)
    made: list[Any] = []
    weights: list[Any] = []

    def weight(name: str, *shape: int) -> str:
        weights.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
        return name

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        made.append(node(operator, list(inputs), [f"v{len(made)}"], name=f"n{len(made)}", **attributes))
        return f"v{len(made) - 1}"

    weights += [
        int64("heads", 0, 0, 2, 8),
        int64("joined", 0, 0, 16),
        int64("last", -1),
        int64("zero", 0),
        int64("one", 1),
    ]
    ids = add("Clip", "input_ids", "low", "high")
    weights += [int64("low", 0, scalar=True), int64("high", 14, scalar=True)]
    hidden = add("Gather", weight("table", 15, 16), ids)
    split = [
        add("Transpose", add("Reshape", add("MatMul", hidden, weight(w, 16, 16)), "heads"), perm=perm)
        for w, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))
    ]
    mask = add("Cast", add("Unsqueeze", add("Unsqueeze", "attention_mask", "one"), "one"), to=1)
    away = add("Mul", add("Sub", mask, weight("w1", 1)), weight("w2", 1))
    odds = add("Softmax", add("Add", add("MatMul", split[0], split[1]), away), axis=-1)
    back = add("Reshape", add("Transpose", add("MatMul", odds, split[2]), perm=[0, 2, 1, 3]), "joined")
    normal = add("LayerNormalization", add("Add", hidden, back), weight("scale", 16), weight("shift", 16), axis=-1)
    inner = add("Tanh", add("Gemm", add("Squeeze", add("Slice", normal, "zero", "one", "one"), "one"),
                            weight("dense", 16, 32)))  # fmt: skip
    classes = add("Softmax", add("Gemm", inner, weight("head", 32, 3)), axis=-1)
    made.append(node("Squeeze", [add("Slice", classes, "zero", "one", "one"), "one"], ["win_rate"]))
    return text_graph(made, weights).SerializeToString()


def loop(steps: int) -> bytes:
    """A loop that adds 1 to a number so often."""
    helper, types = onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["sum", "one"], ["more"])],
        "body",
        [helper.make_tensor_value_info("step", types.INT64, []), helper.make_tensor_value_info("go", types.BOOL, []),
         helper.make_tensor_value_info("sum", types.FLOAT, [1])],
        [helper.make_tensor_value_info("go_on", types.BOOL, []),
         helper.make_tensor_value_info("more", types.FLOAT, [1])],
        [float32("one", 1.0)],
    )  # fmt: skip
    nodes = [
        *HALF[:2],
        node("Loop", ["steps", "", "zero"], ["sum"], body=body),
        node("Mul", ["mean", "sum"], ["win_rate"]),
    ]
    return text_graph(nodes, [int64("steps", steps, scalar=True), float32("zero", 0.0)]).SerializeToString()


def branch(depth: int = 1) -> bytes:
    """If within If, so deep."""
    helper, types = onnx.helper, onnx.TensorProto
    inner = helper.make_graph([node("Identity", ["half"], ["out0"])], "b0", [],
                              [helper.make_tensor_value_info("out0", types.FLOAT, [1])])  # fmt: skip
    other = inner
    for level in range(1, depth + 1):
        name = f"out{level}"
        inner = helper.make_graph(
            [node("If", ["yes"], [name], then_branch=inner, else_branch=other)], f"b{level}", [],
            [helper.make_tensor_value_info(name, types.FLOAT, [1])],
        )  # fmt: skip
    yes = helper.make_tensor("yes", types.BOOL, [1], [True])
    nodes = [*HALF[:2], *inner.node, node("Mul", ["mean", f"out{depth}"], ["win_rate"])]
    return text_graph(nodes, [HALF_WEIGHT, yes]).SerializeToString()


def constant_of(shape: Sequence[int]) -> bytes:
    """A tensor of ones of any shape, from nothing."""
    ones = node("ConstantOfShape", ["shape"], ["ones"], value=float32("v", 1.0))
    nodes = [
        *HALF[:2],
        ones,
        node("ReduceMax", ["ones"], ["most"], keepdims=0),
        node("Mul", ["mean", "most"], ["win_rate"]),
    ]
    return text_graph(nodes, [int64("shape", *shape)]).SerializeToString()


def chain_of(shape: Sequence[int], length: int) -> bytes:
    """Constants that loading computes of one another, each of this shape."""
    ones = node("ConstantOfShape", ["shape"], ["c0"], value=float32("v", 1.0))
    links = [node("Tanh", [f"c{i}"], [f"c{i + 1}"]) for i in range(length)]
    nodes = [*HALF[:2], ones, *links, node("ReduceMax", [f"c{length}"], ["most"], keepdims=0),
             node("Mul", ["mean", "most"], ["win_rate"])]  # fmt: skip
    return text_graph(nodes, [int64("shape", *shape)]).SerializeToString()


def grown(factor: int) -> bytes:
    """A tensor so many times as large as the input, by a shape that only a run knows."""
    nodes = [
        *HALF[:2],
        node("Shape", ["input_ids"], ["shape"]),
        node("Mul", ["shape", "factor"], ["larger"]),
        node("ConstantOfShape", ["larger"], ["ones"], value=float32("v", 1.0)),
        node("ReduceMax", ["ones"], ["most"], keepdims=0),
        node("Mul", ["mean", "most"], ["win_rate"]),
    ]
    return text_graph(nodes, [int64("factor", factor)]).SerializeToString()


def slow(steps: int, factor: int) -> bytes:
    """So many operators on a tensor so many times as large as the mask."""
    nodes = [
        *HALF[:2],
        node("Tile", ["mask", "factor"], ["t0"]),
        *(node("Sin", [f"t{i}"], [f"t{i + 1}"]) for i in range(steps)),
        node("ReduceMax", [f"t{steps}"], ["most"], keepdims=0),
        node("Mul", ["mean", "most"], ["win_rate"]),
    ]
    return text_graph(nodes, [int64("factor", 1, factor)]).SerializeToString()


def function_that_calls(calls: Sequence[str]) -> bytes:
    """A graph with functions of its own; each calls another."""
    helper = onnx.helper
    names = ["f0", *calls]
    functions = [
        helper.make_function("own", name, ["a"], ["b"], [helper.make_node(after, ["a"], ["b"], domain="own")],
                             [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)])
        for name, after in zip(names, [*calls, "f0"], strict=True)
    ]  # fmt: skip
    nodes = [*HALF[:2], helper.make_node("f0", ["mean"], ["win_rate"], domain="own")]
    return text_graph(nodes, functions=functions, domains={"own": 1}).SerializeToString()


def single(operator: str, inputs: Sequence[str] = ("mean",), domain: str = "", **attributes: Any) -> bytes:
    """A graph with one operator of the caller's."""
    made = onnx.helper.make_node(operator, list(inputs), ["win_rate"], domain=domain, **attributes)
    return text_graph([*MEAN, made], domains={domain: 1} if domain else None).SerializeToString()


HOSTILE: Mapping[str, Callable[[], bytes]] = {
    "Loop": lambda: loop(1 << 62),
    "If": branch,
    "If-deep": lambda: branch(20),
    "SequenceEmpty": lambda: single("SequenceEmpty", ()),
    "Optional": lambda: single("Optional"),
    "RandomNormal": lambda: single("RandomNormal", (), shape=[1 << 30]),
    "StringNormalizer": lambda: single("StringNormalizer"),
    "Mul'.*'evil": lambda: single("Mul", ("mean", "mean"), domain="evil"),
    "Tokenizer'.*'com.microsoft": lambda: single("Tokenizer", domain="com.microsoft"),
    "f0'.*'own": lambda: function_that_calls(["f1"]),
    "f0'.*'own'": lambda: function_that_calls([]),
    "constants of constants": lambda: chain_of([1 << 21], 1000),
}
