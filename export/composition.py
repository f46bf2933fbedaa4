"""Two graphs as one: an encoder's, from token ids to embeddings, and behind it a scorer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routellm_fast.errors import UnsupportedExportError
from routellm_fast.extras import require

from .graph import IR_VERSION, OPSET

_PREFIX = "encoder_"


def behind(encoder: bytes, output: str, scorer: Any, link: str, metadata: Mapping[str, str]) -> Any:
    """Return the graph that gives an encoder's output to a scorer's input.

    Args:
        encoder: ONNX.
        output: The encoder's output.
        scorer: ModelProto; changed to the encoder's opset, in which its operators mean the same.
        link: The scorer's input.
        metadata: Metadata of the result.

    Raises:
        UnsupportedExportError: The encoder is of an opset older than the scorer's.
    """
    onnx = require("onnx", "onnx")
    model = onnx.load_model_from_string(encoder)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < OPSET:
        raise UnsupportedExportError(
            f"the encoder's graph is of ONNX opset {opset}; {OPSET} is needed: export it again with that"
        )
    inputs = {entry.name for entry in model.graph.input}
    scorer.opset_import[0].version = opset
    scorer.ir_version = model.ir_version = max(IR_VERSION, model.ir_version)
    # Names of both graphs were given by counting; the encoder's inputs keep theirs.
    model = onnx.compose.add_prefix(model, _PREFIX, rename_inputs=False)
    merged = onnx.compose.merge_models(model, scorer, io_map=[(_PREFIX + output, link)])
    if {entry.name for entry in merged.graph.input} != inputs:
        raise UnsupportedExportError(
            f"the encoder's graph reads {sorted(inputs)}, of which the scorer would need some more"
        )
    del merged.metadata_props[:]
    onnx.helper.set_model_props(merged, dict(metadata))
    return merged
