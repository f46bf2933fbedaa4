"""ONNX graphs of torch modules."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.errors import OnnxModelError
from routellm_fast.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator

# Known to ONNX Runtime from 1.17 on and to TensorRT 10.
OPSET: Final = 20
# What protobuf holds in one message; larger graphs need their weights in files of their own.
_MAX_BYTES: Final = (1 << 31) - 1


def export_text_module(
    module: Any, *, output: str, max_tokens: int, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the graph of a module that reads token ids and their mask, with any number of texts and tokens.

    Equal weights give equal bytes: traces of the exporter, with paths and line numbers, are left out.

    Args:
        module: torch.nn.Module whose forward takes input_ids and attention_mask, int64 (texts, tokens).
        output: Name of what it returns.
        max_tokens: Most tokens of a text.
        metadata: Written into the graph.

    Raises:
        OnnxModelError: The exporter refused the module, or the graph is above 2 GiB.
        MissingExtraError: torch, onnx or onnxscript is not installed.
    """
    torch = require("torch", "transformers")
    for name in ("onnx", "onnxscript"):
        require(name, "transformers")
    # Sizes other than 0 and 1, which the exporter would take for constants.
    ids = torch.ones((2, min(8, max_tokens)), dtype=torch.int64)
    texts, tokens = torch.export.Dim("texts"), torch.export.Dim("tokens", max=max_tokens)
    shapes = {0: texts, 1: tokens}
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                (ids, torch.ones_like(ids)),
                dynamo=True,
                verbose=False,
                input_names=["input_ids", "attention_mask"],
                dynamic_shapes=(shapes, shapes),
                opset_version=OPSET,
            )
            model = program.model_proto
            _name_output(model.graph, output)
    except Exception as error:  # the exporter's classes are not public
        raise OnnxModelError(
            f"torch could not export the model to ONNX: {(str(error).strip() or repr(error)).splitlines()[0]}"
        ) from error
    return serialized(model, metadata or {})


def serialized(model: Any, metadata: Mapping[str, str]) -> bytes:
    """Return an onnx.ModelProto as bytes without the exporter's traces. Raises OnnxModelError above 2 GiB."""
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.doc_string = ""
        for entry in (*graph.node, *graph.value_info, *_of(graph, "initializer", "input", "output")):
            entry.doc_string = ""
            if hasattr(entry, "metadata_props"):
                del entry.metadata_props[:]
        del graph.metadata_props[:]
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    if model.ByteSize() > _MAX_BYTES:
        raise OnnxModelError(
            f"the graph has {model.ByteSize():,} bytes, above the 2 GiB of one ONNX file: take a smaller model"
        )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _name_output(graph: Any, name: str) -> None:
    """Name the graph's one output; the exporter would let it collide with an inner value of that name."""
    (output,) = graph.output
    taken = {value for node in graph.node for value in (*node.input, *node.output)}
    inner = name
    while inner in taken:
        inner += "_"
    renamed = {name: inner, output.name: name} if output.name != name else {}
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [renamed.get(value, value) for value in values]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)
    output.name = name


def _of(graph: Any, *fields: str) -> Iterator[Any]:
    for field in fields:
        values: Sequence[Any] = getattr(graph, field, ())
        # A function's inputs are mere names.
        yield from (value for value in values if hasattr(value, "doc_string"))


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own inner workings, which nobody here can change."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
