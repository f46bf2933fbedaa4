"""Which graphs are run: those that cannot hold the process up for ever, whoever made them.

A graph of the ONNX standard is a program: it may hold loops, call functions, name files, and make tensors of any size.
What routers and embedders are needs little of that. So a graph is looked at before ONNX Runtime gets it, and refused
where it holds anything else than operators that end. What tensors become at a run depends on the inputs: there the
limits of `OnnxSession` hold, for memory and for time.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from routellm_fast.errors import OnnxModelError
from routellm_fast.onnx._protobuf import fields, integers

MOST_NODES: Final = 50_000
_MOST_FOLDED_BYTES: Final = 4 << 30
# Of one constant that ONNX Runtime computes of others when it loads a graph: its own limit, and the least used here.
_FOLD_MOST_BYTES: Final = 1 << 30
_FOLD_LEAST_BYTES: Final = 16 << 20
_MOST_RANK: Final = 8
_MOST_ELEMENTS: Final = 1 << 40
# Of the widest type.
_ELEMENT_BYTES: Final = 8

_BROADCASTING: Final = frozenset(
    [
        "Add",
        "And",
        "BitShift",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "PRelu",
        "Pow",
        "Sub",
        "Sum",
        "Where",
        "Xor",
    ]
)
# Whose result has at most as many elements as the first input.
_KEEPING: Final = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "ArgMax",
        "ArgMin",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BatchNormalization",
        "BitwiseNot",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "CumSum",
        "DequantizeLinear",
        "Dropout",
        "DynamicQuantizeLinear",
        "Elu",
        "Erf",
        "Exp",
        "Flatten",
        "Floor",
        "Gelu",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Hardmax",
        "Identity",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "LpNormalization",
        "Mish",
        "Neg",
        "Not",
        "QuantizeLinear",
        "RMSNormalization",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Relu",
        "Reshape",
        "ReverseSequence",
        "RotaryEmbedding",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "SimplifiedLayerNormalization",
        "Sin",
        "Sinh",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "Split",
        "Sqrt",
        "Squeeze",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "TopK",
        "Transpose",
        "Trilu",
        "Unsqueeze",
    ]
)
_MEASURING: Final = frozenset(("Shape", "Size"))
_OTHERS: Final = frozenset(
    [
        "Attention",
        "AveragePool",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "ConvInteger",
        "Einsum",
        "Expand",
        "EyeLike",
        "Gather",
        "GatherElements",
        "GatherND",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "MatMul",
        "MatMulInteger",
        "MaxPool",
        "NonZero",
        "OneHot",
        "Pad",
        "QLinearConv",
        "QLinearMatMul",
        "Range",
        "Tile",
    ]
)
_STANDARD: Final = _BROADCASTING | _KEEPING | _MEASURING | _OTHERS
# What ONNX Runtime's own tools fuse transformers into.
_FUSED: Final = frozenset(
    [
        "Attention",
        "BiasAdd",
        "BiasGelu",
        "BiasSoftmax",
        "DequantizeLinear",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "FastGelu",
        "FusedGemm",
        "FusedMatMul",
        "GatherBlockQuantized",
        "Gelu",
        "GroupQueryAttention",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearConcat",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QuantizeLinear",
        "QuickGelu",
        "RotaryEmbedding",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    ]
)
_OPERATORS: Final[Mapping[str, frozenset[str]]] = {"": _STANDARD, "ai.onnx": _STANDARD, "com.microsoft": _FUSED}

# Bits of an element by ONNX's number of its type; strings and complex numbers are no part of such graphs.
_BITS: Final[Mapping[int, int]] = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 17: 8, 18: 8, 19: 8,
    20: 8, 21: 4, 22: 4, 23: 4,
}  # fmt: skip

# Numbers of the fields that are read, by message of onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 3, 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_OTHERS, _ATTRIBUTE_LISTS = 5, (6, 11), (10, 14, 15, 22, 23), (7, 8, 9)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_SEGMENT, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 3, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_TENSOR_VALUES: Final = (4, 5, 6, 7, 10, 11)

_SO_WHAT: Final = (
    "Routers and embedders need none. allow_any_graph=True runs it without any check: only for a graph that you trust"
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What is known of a graph that may be run.

    Attributes:
        nodes: How many operators it holds.
        fold_limit_bytes: Most bytes of one constant that the runtime may compute of others when it loads the graph.
    """

    nodes: int
    fold_limit_bytes: int


@dataclass(slots=True)
class _Node:
    operator: str
    domain: str
    inputs: list[str]
    outputs: list[str]
    elements: int  # of a Constant


@dataclass(slots=True)
class _Graph:
    nodes: list[_Node] = field(default_factory=list)
    elements: dict[str, int] = field(default_factory=dict)  # of the initializers


def admit(model: bytes | Path) -> Admitted:
    """Look at a graph, given as bytes or as its file.

    It may hold up to 50,000 operators, of those that standard graphs of classifiers, encoders and language models
    consist of, and weights: no control flow (If, Loop, Scan), functions, sequences, random numbers, texts, or operators
    of other domains. Weights in files of their own lie in the graph's folder. The constants that the runtime would
    compute of other constants have 4 GiB in all at most.

    Raises:
        OnnxModelError: The graph is damaged, or holds something else; the text says what.
    """
    if isinstance(model, bytes):
        return _admitted(memoryview(model), None)
    with model.open("rb") as file:
        if model.stat().st_size == 0:
            raise OnnxModelError(f"{model} is empty: expected an ONNX graph")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
            # The error's traceback would hold parts of the view, which could then not be closed.
            try:
                return _admitted(view, model)
            except OnnxModelError as error:
                reason = str(error)
    raise OnnxModelError(f"{model}: {reason}")


def _admitted(content: memoryview, path: Path | None) -> Admitted:
    graph = _Graph()
    found = False
    for number, value in fields(content):
        if number in (_MODEL_FUNCTION, _MODEL_TRAINING):
            what = "functions of its own" if number == _MODEL_FUNCTION else "a training step"
            raise OnnxModelError(f"the graph holds {what}. {_SO_WHAT}")
        if number == _MODEL_GRAPH:
            found = True
            _read_graph(_message(value), graph, path)
    if not found:
        raise OnnxModelError("these bytes hold no ONNX graph: the file is another one, or damaged")
    return Admitted(len(graph.nodes), _fold_limit(graph))


def _read_graph(content: memoryview, graph: _Graph, path: Path | None) -> None:
    for number, value in fields(content):
        if number == _GRAPH_NODE:
            graph.nodes.append(_node(_message(value), path))
            if len(graph.nodes) > MOST_NODES:
                raise OnnxModelError(f"the graph holds more than {MOST_NODES:,} operators. {_SO_WHAT}")
        elif number == _GRAPH_INITIALIZER:
            name, elements = _tensor(_message(value), path)
            graph.elements[name] = elements
        elif number == _GRAPH_SPARSE:
            raise OnnxModelError(f"the graph holds sparse weights. {_SO_WHAT}")


def _node(content: memoryview, path: Path | None) -> _Node:
    name = ""
    node = _Node("", "", [], [], 0)
    attributes = []
    for number, value in fields(content):
        if number == _NODE_INPUT:
            node.inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(_text(value))
        elif number == _NODE_NAME:
            name = _text(value)
        elif number == _NODE_OPERATOR:
            node.operator = _text(value)
        elif number == _NODE_DOMAIN:
            node.domain = _text(value)
        elif number == _NODE_ATTRIBUTE:
            attributes.append(_message(value))
    if node.operator not in _OPERATORS.get(node.domain, ()):
        of = f" of the domain {node.domain[:80]!r}" if node.domain else ""
        raise OnnxModelError(
            f"the graph holds the operator {node.operator[:80]!r}{of}, at node {name[:80]!r}. {_SO_WHAT}"
        )
    for attribute in attributes:
        node.elements += _attribute(attribute, node.operator, path)
    return node


def _attribute(content: memoryview, operator: str, path: Path | None) -> int:
    """Check an attribute; return of how many elements it is."""
    elements = 1
    for number, value in fields(content):
        if number in _ATTRIBUTE_GRAPHS:
            raise OnnxModelError(f"the graph's operator {operator} holds a graph of its own. {_SO_WHAT}")
        if number in _ATTRIBUTE_OTHERS:
            raise OnnxModelError(f"the graph's operator {operator} holds types or several tensors. {_SO_WHAT}")
        if number == _ATTRIBUTE_TENSOR:
            elements += _tensor(_message(value), path)[1]
        elif number in _ATTRIBUTE_LISTS:
            elements += 1 if isinstance(value, int) else len(value)
    return elements


def _tensor(content: memoryview, path: Path | None) -> tuple[str, int]:
    """Check a tensor; return its name and its number of elements."""
    name, dims, kind, raw_bytes, value_bytes, is_external = "", [], 0, 0, 0, False
    external: dict[str, str] = {}
    for number, value in fields(content):
        if number == _TENSOR_DIMS:
            dims += integers(value)
        elif number == _TENSOR_TYPE:
            kind = integers(value)[-1] if value else 0
        elif number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_RAW:
            raw_bytes = len(_message(value))
        elif number in _TENSOR_VALUES:
            value_bytes += 10 if isinstance(value, int) else len(value)
        elif number == _TENSOR_EXTERNAL:
            key, text = _entry(_message(value))
            external[key] = text
        elif number == _TENSOR_LOCATION:
            is_external = value != 0
        elif number == _TENSOR_SEGMENT:
            raise OnnxModelError(f"the weights {name[:80]!r} are a part of a tensor. {_SO_WHAT}")
    what = f"the weights {name[:80]!r} of shape {tuple(dims[:_MOST_RANK])}"
    if kind not in _BITS:
        raise OnnxModelError(f"{what} are of ONNX's type {kind}, expected numbers. {_SO_WHAT}")
    if len(dims) > _MOST_RANK or any(size < 0 for size in dims):
        raise OnnxModelError(f"{what} have {len(dims)} dimensions, expected at most {_MOST_RANK}, none negative")
    elements = math.prod(dims)
    if elements > _MOST_ELEMENTS:
        raise OnnxModelError(f"{what} would have {elements:,} elements, more than a file holds")
    expected = (elements * _BITS[kind] + 7) // 8
    if is_external or external:
        _check_external(what, external, expected, path)
    elif raw_bytes and raw_bytes != expected:
        raise OnnxModelError(f"{what} need {expected:,} bytes, found {raw_bytes:,}: the graph is damaged")
    elif not raw_bytes and elements > 8 * value_bytes:
        raise OnnxModelError(f"{what} have {elements:,} elements, found {value_bytes:,} bytes: the graph is damaged")
    return name, elements


def _check_external(what: str, entries: Mapping[str, str], expected: int, path: Path | None) -> None:
    location = entries.get("location", "")
    if path is None:
        raise OnnxModelError(f"{what} lie in the file {location[:80]!r}: a graph that is given as bytes has no folder")
    parts = Path(location).parts
    if not location or "\0" in location or Path(location).is_absolute() or ".." in parts or "\\" in location:
        raise OnnxModelError(f"{what} lie at {location[:80]!r}: expected a path below the graph's own folder")
    # A download cache keeps the graph and its weights elsewhere, side by side, and links to both.
    folders = (path.parent.resolve(), path.resolve().parent)
    try:
        file = (path.parent / location).resolve(strict=True)
        size = file.stat().st_size
    except (OSError, RuntimeError) as error:
        raise OnnxModelError(f"{what} lie in the file {location[:80]!r}, which cannot be read: {error}") from error
    if not file.is_file() or not any(file.is_relative_to(folder) for folder in folders):
        raise OnnxModelError(f"{what} lie at {location[:80]!r}, which leads out of the graph's folder, to {file}")
    try:
        offset, length = (int(entries.get(key) or default) for key, default in (("offset", 0), ("length", expected)))
    except ValueError as error:
        raise OnnxModelError(f"{what}: offset and length in {location[:80]!r} are integers, found {error}") from error
    if offset < 0 or length != expected or offset + length > size:
        raise OnnxModelError(
            f"{what} need {expected:,} bytes; the graph says {length:,} from byte {offset:,} of {location[:80]!r}, "
            f"which has {size:,}"
        )


def _fold_limit(graph: _Graph) -> int:
    """Return the limit of one constant; refuse a graph whose constants would have too many bytes in all."""
    largest = max((_constant_inputs(graph)), default=0) * _ELEMENT_BYTES
    for limit in (min(_FOLD_MOST_BYTES, max(_FOLD_LEAST_BYTES, largest)), _FOLD_LEAST_BYTES):
        folded = _folded_bytes(graph, limit)
        if folded <= _MOST_FOLDED_BYTES:
            return limit
    raise OnnxModelError(
        f"the graph computes constants of constants, of {folded:,} bytes or more: at most {_MOST_FOLDED_BYTES:,} are "
        f"computed. {_SO_WHAT}"
    )


def _constant_inputs(graph: _Graph) -> Iterator[int]:
    """Yield the sizes of all weights that operators without other inputs read."""
    for node in graph.nodes:
        sizes = [graph.elements.get(name, -1) for name in node.inputs if name]
        if sizes and min(sizes) >= 0:
            yield max(sizes)


def _folded_bytes(graph: _Graph, limit: int) -> int:
    """Return how many bytes the runtime computes at most of what does not depend on the inputs' values."""
    most = limit // _ELEMENT_BYTES
    known = {"": 1, **graph.elements}
    made = {name for node in graph.nodes for name in node.outputs if name}
    seen: set[str] = set()
    total = 0
    for node in graph.nodes:
        late = [name for name in node.inputs if name in made and name not in seen]
        if late:
            raise OnnxModelError(f"the graph's operators are not in order: {late[0][:80]!r} is read before it is made")
        seen.update(node.outputs)
        if node.operator in _MEASURING:
            elements = _MOST_RANK
        elif node.operator == "Constant":
            elements = node.elements
        elif not all(name in known for name in node.inputs):
            continue
        else:
            elements = _elements(node, known, most)
        total += min(elements, most) * _ELEMENT_BYTES * len(node.outputs)
        known.update(dict.fromkeys(node.outputs, elements))
    return total


def _elements(node: _Node, known: Mapping[str, int], most: int) -> int:
    """Return how many elements each result has at most; none is computed of more than `most`."""
    sizes = [known[name] for name in node.inputs] or [1]
    if node.domain not in ("", "ai.onnx"):
        return most
    if node.operator in _KEEPING:
        return min(sizes[0], most)
    if node.operator in _BROADCASTING:
        return min(math.prod(sizes), most)
    if node.operator in ("Gather", "GatherElements"):
        return min(sizes[0] * sizes[-1], most)
    if node.operator == "Concat":
        return min(sum(sizes), most)
    return most


def _entry(content: memoryview) -> tuple[str, str]:
    pair = {1: "", 2: ""}
    for number, value in fields(content):
        if number in pair:
            pair[number] = _text(value)
    return pair[1], pair[2]


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise OnnxModelError("the ONNX graph is damaged: a number where a message is expected")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return str(_message(value), "utf-8")
    except UnicodeDecodeError as error:
        raise OnnxModelError("the ONNX graph is damaged: a name is no UTF-8") from error
