"""Graphs as files: checked, and with external data where a protobuf cannot hold the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from routellm_fast.errors import ExportError
from routellm_fast.extras import require

MODEL_FILE: Final = "model.onnx"
DATA_FILE: Final = "model.onnx.data"
# A protobuf ends at 2 GiB; the rest is for everything but the weights.
MAX_INLINE_BYTES: Final = (1 << 31) - (64 << 20)


def write_model(model: Any, folder: Path, *, max_inline_bytes: int = MAX_INLINE_BYTES) -> Path:
    """Write a ModelProto and check the file.

    Raises:
        ExportError: ONNX's checker refuses it; that is a fault of this package, or of the graph that was given to it.
    """
    onnx = require("onnx", "onnx")
    path = folder / MODEL_FILE
    weight_bytes = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weight_bytes > max_inline_bytes:
        onnx.save_model(
            model,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=DATA_FILE,
            size_threshold=1024,
        )
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path), full_check=weight_bytes <= max_inline_bytes)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}") from error
    return path
