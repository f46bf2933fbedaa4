"""model.py of a stand-in for Triton's onnxruntime backend, which no package index has: it runs model.onnx beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        threads = json.loads(args["model_config"])["parameters"]["intra_op_thread_count"]["string_value"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(threads)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        # As the real one: requests that Triton put together have equal shapes and run as one.
        feeds = [
            {name: pb.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        counts = [len(feed[self._inputs[0]]) for feed in feeds]
        together = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        values = self._session.run(["win_rate"], together)[0].reshape(-1, 1)
        parts = np.split(values, np.cumsum(counts)[:-1])
        return [pb.InferenceResponse([pb.Tensor("win_rate", np.ascontiguousarray(part))]) for part in parts]
