"""ONNX graphs, one node at a time.

Names are given by counting, so that equal routers make equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.extras import require

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

# 18 is the first with axes as inputs in all reductions. ONNX Runtime reads it since 1.14, TensorRT since 8.6.
OPSET: Final = 18
IR_VERSION: Final = 8


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a run time can do with a graph.

    Attributes:
        fit_dtype: What sw_ranking fits ratings in.
        int8_tables: Whether int8 constants may be gathered from.
    """

    fit_dtype: Any
    int8_tables: bool


ONNX_RUNTIME: Final = Dialect(np.float64, int8_tables=True)
# TensorRT has no float64, and takes int8 constants for quantized weights.
TENSORRT: Final = Dialect(np.float32, int8_tables=False)


class Graph:
    """A graph under construction. Methods that add something return its name, to be used as an input of others."""

    def __init__(self, name: str) -> None:
        """Begin an empty graph."""
        self._onnx = require("onnx", "onnx")
        self._name = name
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> str:
        """Add an input; a text in its shape names a dimension of any length."""
        self._inputs.append(self._value(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> None:
        """Give a value to whoever runs the graph."""
        self._nodes.append(self._onnx.helper.make_node("Identity", [value], [name], name=f"give_{name}"))
        self._outputs.append(self._value(name, dtype, shape))

    def constant(self, array: Any, dtype: DTypeLike | None = None, *, name: str | None = None) -> str:
        """Add a constant; small ones that are equal are kept once."""
        value: NDArray[Any] = np.ascontiguousarray(array, dtype=dtype).reshape(np.shape(array))
        key = (value.dtype.str, value.shape, value.tobytes()) if value.size <= 64 else None
        if name is None and key in self._known:
            return self._known[key]
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(value, name))
        if key is not None:
            self._known.setdefault(key, name)
        return name

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node of one output."""
        name = name or f"{operator}_{len(self._nodes)}"
        output = f"{name}_out"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """Convert a value."""
        return self.add("Cast", value, to=self._type(dtype))

    def reduce(self, operator: str, value: str, axis: int, *, keepdims: bool = True) -> str:
        """Reduce one axis: ReduceSum, ReduceMax."""
        return self.add(operator, value, self.constant([axis], np.int64), keepdims=int(keepdims))

    def slice(self, value: str, axis: int, start: int, end: int) -> str:
        """Take positions start to end, exclusive, of one axis."""
        bounds = (self.constant([number], np.int64) for number in (start, end, axis))
        return self.add("Slice", value, *bounds)

    def column(self, value: str, axis: int, index: int) -> str:
        """Take one position of an axis, which stays with length one."""
        return self.add("Gather", value, self.constant([index], np.int64), axis=axis)

    def model(self, metadata: Mapping[str, str], producer_version: str) -> Any:
        """Return the finished ModelProto."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="routellm-fast",
            producer_version=producer_version,
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def _value(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._type(dtype), list(shape))

    def _type(self, dtype: DTypeLike) -> int:
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
