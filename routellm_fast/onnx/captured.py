"""Runs of fixed shapes on a GPU: memory is bound once a shape, and the kernels' launches are captured and replayed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.onnx._deadlines import run_deadline

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Each shape keeps its memory and its graph: callers pad to few shapes.
MAX_SHAPES: Final = 32
# ONNX Runtime's name for which graph a run captures or replays; -1 captures none.
_GRAPH_ID: Final = "gpu_graph_id"
_NO_GRAPH: Final = "-1"

Key = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Bound:
    binding: Any
    options: Any
    inputs: Mapping[str, Any]
    outputs: tuple[Any, ...]


class CapturedRuns:
    """Runs of one session whose launches are captured, one graph a shape. Thread-safe: one run at a time.

    A captured graph reads and writes the memory that it was captured with. So inputs are copied to where they lay at
    the first run of their shape, and outputs are read from where they were written then.
    """

    def __init__(
        self,
        session: Any,
        runtime: Any,
        *,
        device: str = "cuda",
        max_shapes: int = MAX_SHAPES,
        run_timeout_s: float | None = None,
    ) -> None:
        """Take a session that was made with `enable_cuda_graph`.

        Args:
            session: onnxruntime's InferenceSession.
            runtime: The module onnxruntime.
            device: Where memory is bound, as onnxruntime names it.
            max_shapes: How many shapes are kept; runs of further ones are not captured.
            run_timeout_s: Most seconds of the first run of a shape, which is not a replay; None for no limit.
        """
        self._run_timeout_s = run_timeout_s
        self._session, self._runtime, self._device, self._max_shapes = session, runtime, device, max_shapes
        self._names = [entry.name for entry in session.get_outputs()]
        self._bound: dict[Key, _Bound] = {}
        self._lock = threading.Lock()

    @property
    def shape_count(self) -> int:
        """How many shapes were captured."""
        return len(self._bound)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return all outputs, in the graph's order."""
        key = tuple((name, value.shape) for name, value in sorted(inputs.items()))
        with self._lock:
            bound = self._bound.get(key)
            if bound is None:
                outputs = self._run_once(inputs)
                if len(self._bound) >= self._max_shapes:
                    return [np.array(value.numpy()) for value in outputs]
                bound = self._bound[key] = self._bind(inputs, outputs)
            else:
                for name, value in inputs.items():
                    bound.inputs[name].update_inplace(value)
            self._session.run_with_iobinding(bound.binding, bound.options)
            return [np.array(value.numpy()) for value in bound.outputs]  # theirs is written over

    def _run_once(self, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Run uncaptured, which tells the shapes of the outputs."""
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, self._on_device(value))
        for name in self._names:
            binding.bind_output(name, self._device)
        options = self._options(_NO_GRAPH)
        with run_deadline(options, self._run_timeout_s):
            self._session.run_with_iobinding(binding, options)
        return list(binding.get_outputs())

    def _bind(self, inputs: Mapping[str, NDArray[Any]], outputs: list[Any]) -> _Bound:
        binding = self._session.io_binding()
        held = {name: self._on_device(value) for name, value in inputs.items()}
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in zip(self._names, outputs, strict=True):
            binding.bind_ortvalue_output(name, value)
        return _Bound(binding, self._options(str(len(self._bound) + 1)), held, tuple(outputs))

    def _on_device(self, value: NDArray[Any]) -> Any:
        return self._runtime.OrtValue.ortvalue_from_numpy(value, self._device, 0)

    def _options(self, graph: str) -> Any:
        options = self._runtime.RunOptions()
        options.add_run_config_entry(_GRAPH_ID, graph)
        return options
