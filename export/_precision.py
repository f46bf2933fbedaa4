"""A graph in another precision, which is baked in: TensorRT 11 takes it from the graph, and ONNX Runtime always has.

float16 and bfloat16 lower the products with weights, and nothing else: sums, softmax, normalisation and the fit of
ratings stay in float32, as in mixed-precision training. int8 quantizes the same products with ONNX Runtime's tools.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRECISIONS: Final = ("float32", "float16", "bfloat16", "int8", "int8-static")
# The largest difference of win rates that each precision may bring, by kind of router: more than natural prompts showed
# of routers that survive it (benchmarks/results/transformers_quality.md), less than a broken graph does. Those of
# sw_ranking lie in a narrow range, so that the same difference changes more decisions.
_BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    "mf": (1e-5, 5e-4, 5e-3, 1e-2, 1e-2),
    "sw_ranking": (1e-5, 2e-5, 2e-4, 1e-3, 1e-3),
}
_TRANSFORMER_BOUNDS: Final = (1e-5, 2e-3, 2e-2, 1e-1, 1e-1)
_PRODUCTS: Final = ("MatMul", "Gemm")

Feeds = Mapping[str, "NDArray[Any]"]


def bound_of(kind: str, precision: str) -> float:
    """Return the bound of a kind of router. Raises InvalidArgumentError for an unknown precision."""
    check_precision(precision)
    return _BOUNDS.get(kind, _TRANSFORMER_BOUNDS)[PRECISIONS.index(precision)]


def check_precision(precision: str) -> None:
    """Raise InvalidArgumentError unless it is one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise InvalidArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}")


def with_precision(model: Any, precision: str, keep: Collection[str], samples: Sequence[Feeds]) -> Any:
    """Return a ModelProto in another precision; the given one may be changed.

    Args:
        model: ModelProto in float32.
        precision: One of PRECISIONS.
        keep: Nodes that stay as they are.
        samples: Inputs of natural prompts, by which int8-static chooses its scales.

    Raises:
        InvalidArgumentError: An unknown precision, or int8-static without samples.
    """
    check_precision(precision)
    if precision == "float32":
        return model
    if precision in ("float16", "bfloat16"):
        return _lowered(model, precision, keep)
    if precision == "int8-static" and not samples:
        raise InvalidArgumentError(
            "int8-static chooses its scales on prompts like your traffic: give some (--prompts FILE)"
        )
    return _quantized(model, keep, samples if precision == "int8-static" else None)


def _lowered(model: Any, precision: str, keep: Collection[str]) -> Any:
    onnx = require("onnx", "onnx")
    low = onnx.TensorProto.FLOAT16 if precision == "float16" else onnx.TensorProto.BFLOAT16
    dtype = onnx.helper.tensor_dtype_to_np_dtype(low)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    chosen = [
        node
        for node in graph.node
        if node.op_type in _PRODUCTS and node.name not in keep and any(name in weights for name in node.input)
    ]
    lowered: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if not any(node is one for one in chosen):
            nodes.append(node)
            continue
        for position, name in enumerate(node.input):
            if name not in lowered:
                lowered[name] = f"{name}_{precision}"
                if name in weights:
                    array = onnx.numpy_helper.to_array(weights[name]).astype(dtype)
                    graph.initializer.append(onnx.numpy_helper.from_array(array, lowered[name]))
                else:
                    nodes.append(onnx.helper.make_node("Cast", [name], [lowered[name]], name=lowered[name], to=low))
            node.input[position] = lowered[name]
        output, narrow = node.output[0], f"{node.output[0]}_{precision}"
        node.output[0] = narrow
        nodes.append(node)
        nodes.append(
            onnx.helper.make_node("Cast", [narrow], [output], name=f"{narrow}_wide", to=onnx.TensorProto.FLOAT)
        )
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return model


def _quantized(model: Any, keep: Collection[str], samples: Iterable[Feeds] | None) -> Any:
    onnx = require("onnx", "onnx")
    quantization = require("onnxruntime.quantization", "onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        weights = {tensor.name for tensor in model.graph.initializer}
        products = [node for node in model.graph.node if node.op_type in _PRODUCTS]
        others = {node.name for node in products if weights.isdisjoint(node.input)}
        common = {
            "op_types_to_quantize": list(_PRODUCTS),
            "nodes_to_exclude": sorted(others.union(keep)),
            "per_channel": True,
        }
        onnx.save_model(model, source)
        stack.enter_context(_silent_tools())
        if samples is None:
            quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QInt8, **common)
        else:
            quantization.quantize_static(
                source,
                target,
                _reader(quantization, samples),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"ActivationSymmetric": True},  # TensorRT knows no zero points
                **common,
            )
        quantized = onnx.load_model(target)
    del quantized.metadata_props[:]
    onnx.helper.set_model_props(quantized, metadata)
    return quantized


@contextmanager
def _silent_tools() -> Iterator[None]:
    """Keep ONNX Runtime's tools from advising whoever exports, on the root logger, to do what was done already."""

    def is_ours(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(is_ours)
    try:
        yield
    finally:
        root.removeFilter(is_ours)


def _reader(quantization: Any, samples: Iterable[Feeds]) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Feeds] = iter(samples)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            found = next(self._left, None)
            return None if found is None else dict(found)

    return Reader()
