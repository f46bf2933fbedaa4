"""The modes onnx and tensorrt: an ensemble of three steps, tokenize → graph → decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import numpy as np

from routellm_fast.serving.triton_protocol import CALIBRATION_TABLE, THRESHOLD

from ._exportable import Exportable
from ._model_file import DATA_FILE, MODEL_FILE
from ._onnx_export import GraphOptions, write_onnx
from ._report import ExportReport
from ._scorer_graphs import EMBEDDINGS, WIN_RATE
from ._static_graph import ATTENTION_MASK, INPUT_IDS, SURFACE_FEATURES
from ._triton_config import DECISION, OPTIONAL_THRESHOLD, Batching, Model, Tensor, router_inputs
from ._triton_model import asked_server, requests, write_python_model
from ._triton_options import Serving
from .graph import ONNX_RUNTIME
from .tensorrt_export import MANIFEST_FILE, PLAN_FILE, PlanOptions, write_plan
from .triton_preparation import PREPARATION_FOLDER, embedder_of, longest_of, write_preparation

# On a GPU each shape is an engine or a plan's profile: few lengths. On a CPU only padding costs.
_GPU_LENGTHS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048)
_CPU_STEP: Final = 16
_USUAL_BATCH: Final = 8
_USUAL_LENGTH: Final = 64
# What the graph gives.
_FLAT: Final = Tensor(WIN_RATE, "FP32", is_flat=True)
_PREPARATION_MODEL: Final = ("routellm_fast.export", "PreparationModel")
_DECISION_MODEL: Final = ("routellm_fast.serving.triton_backend", "DecisionModel")


def write_ensemble(
    repository: Path,
    native: Exportable,
    digest: str,
    serving: Serving,
    options: GraphOptions,
    *,
    plan: PlanOptions | None,
    threads: int,
    on_gpu: bool,
) -> tuple[list[Model], ExportReport]:
    """Write an ensemble around a router's graph.

    Args:
        repository: Where the models' folders are made.
        native: The router.
        digest: The router's digest.
        serving: How the models are served.
        options: How the graph is made and compared.
        plan: How a plan for TensorRT's backend is built, but for its shapes; None for ONNX Runtime's backend.
        threads: Threads of each copy of the graph in ONNX Runtime's backend, on the CPU.
        on_gpu: Whether the graph runs on a GPU.

    Returns:
        The models, the ensemble before its steps, and the report of the graph.
    """
    batching = serving.batching
    lengths = _lengths(longest_of(native), on_gpu=on_gpu)
    with _scratch(repository) as folder:
        if plan is None:
            report = write_onnx(native, digest, folder, options, ONNX_RUNTIME)
        else:
            most, longest = batching.max_size, lengths[-1]
            length = (1, min(_USUAL_LENGTH, longest), longest) if native.inputs == "tokens" else None
            plan = replace(plan, batch=(1, min(_USUAL_BATCH, most), most), length=length)
            report = write_plan(native, digest, folder, options, plan)
        feeds = _graph_inputs(native)
        graph = Model(
            f"{serving.name}_graph",
            "onnxruntime" if plan is None else "tensorrt",
            feeds,
            [_FLAT],
            replace(batching, on_gpu=on_gpu),
            platform="onnxruntime_onnx" if plan is None else "tensorrt_plan",
            parameters={} if plan is not None else _onnx_parameters(threads),
            warmup=_graph_warmup(feeds, lengths, batching),
        )
        ensemble, tokenize, decide = _steps_around(graph, native, serving)
        models = [ensemble, tokenize, graph, decide]
        folders = {model.name: model.write(repository, serving.version) for model in models}
        write_preparation(native, folders[tokenize.name] / PREPARATION_FOLDER, lengths)
        write_python_model(folders[tokenize.name], *_PREPARATION_MODEL)
        write_python_model(folders[decide.name], *_DECISION_MODEL)
        names = (MODEL_FILE, DATA_FILE) if plan is None else (PLAN_FILE, MANIFEST_FILE)
        for path in (folder / name for name in names):
            if path.exists():
                path.rename(folders[graph.name] / path.name)
    return models, report


def _steps_around(graph: Model, native: Exportable, serving: Serving) -> tuple[Model, Model, Model]:
    """Return the ensemble, its step before the graph, and that behind it."""
    batching = serving.batching
    dim = native.widths.get(EMBEDDINGS)
    inputs = router_inputs(takes_prompts=dim is None or embedder_of(native) is not None, dim=dim)
    asked = [tensor for tensor in inputs if tensor.name != THRESHOLD]
    tokenize, decide = f"{serving.name}_tokenize", f"{serving.name}_decide"
    ensemble = Model(
        serving.name,
        "",
        inputs,
        DECISION,
        batching,
        platform="ensemble",
        parameters=serving.parameters,
        response_cache=serving.response_cache,
        steps=(
            (tokenize, _same(asked), _same(graph.inputs)),
            (graph.name, _same(graph.inputs), _same(graph.outputs)),
            (decide, _same([*graph.outputs, OPTIONAL_THRESHOLD]), _same(DECISION)),
        ),
    )
    first = Model(
        tokenize,
        "python",
        asked,
        graph.inputs,
        batching,
        parameters=asked_server(native.router) if EMBEDDINGS in native.widths else {},
        warmup=requests(asked, batching.max_size),
    )
    last = Model(
        decide,
        "python",
        [replace(_FLAT, is_flat=False), OPTIONAL_THRESHOLD],
        DECISION,
        batching,
        parameters={key: value for key, value in serving.parameters.items() if key != CALIBRATION_TABLE},
        warmup=[(1, {_FLAT.name: np.full(1, 0.5, np.float32)})],
    )
    return ensemble, first, last


def _onnx_parameters(threads: int) -> dict[str, str]:
    return {"intra_op_thread_count": str(threads), "inter_op_thread_count": "1", "execution_mode": "0"}


def _lengths(longest: int, *, on_gpu: bool) -> list[int]:
    """Return the numbers of tokens that prompts are padded to, rising, up to the longest prompt's."""
    shorter = _GPU_LENGTHS if on_gpu else range(_CPU_STEP, longest, _CPU_STEP)
    return [*(length for length in shorter if length < longest), longest]


def _graph_inputs(native: Exportable) -> list[Tensor]:
    known = {
        EMBEDDINGS: ("FP32", native.widths.get(EMBEDDINGS)),
        SURFACE_FEATURES: ("FP32", native.widths.get(SURFACE_FEATURES)),
        INPUT_IDS: ("INT64", -1),
        ATTENTION_MASK: ("INT64", -1),
    }
    return [Tensor(name, known[name][0], (known[name][1] or 1,)) for name in native.widths]


def _graph_warmup(
    feeds: Sequence[Tensor], lengths: Sequence[int], batching: Batching
) -> list[tuple[int, dict[str, Any]]]:
    """The shortest and the longest prompt, alone and as many as a batch holds."""
    samples = []
    for length in sorted({lengths[0], lengths[-1]}):
        row: dict[str, Any] = {}
        for tensor in feeds:
            shape = (length,) if tensor.dims == (-1,) else tensor.dims
            # Ones: tokens that are there, and embeddings that are not zero.
            row[tensor.name] = np.ones(shape, np.int64 if tensor.data_type == "INT64" else np.float32)
        samples += [(count, row) for count in sorted({1, batching.max_size})]
        if all(tensor.dims != (-1,) for tensor in feeds):
            break
    return samples


def _same(tensors: Sequence[Tensor]) -> dict[str, str]:
    return {tensor.name: tensor.name for tensor in tensors}


@contextmanager
def _scratch(repository: Path) -> Iterator[Path]:
    """A folder for the graph, in the file system of the repository; gone at the end."""
    folder = repository / ".graph"
    folder.mkdir()
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
