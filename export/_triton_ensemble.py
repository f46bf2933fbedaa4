"""The modes onnx and tensorrt: an ensemble of three steps, tokenize → graph → decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import numpy as np

from routellm_fast.serving.triton_protocol import CALIBRATION, THRESHOLD

from ._exportable import Exportable
from ._model_file import DATA_FILE, MODEL_FILE
from ._onnx_export import GraphOptions, write_onnx
from ._report import ExportReport
from ._scorer_graphs import EMBEDDINGS, WIN_RATE
from ._static_graph import ATTENTION_MASK, INPUT_IDS, SURFACE_FEATURES
from ._triton_config import DECISION, OPTIONAL_THRESHOLD, Batching, Model, Tensor, router_inputs
from ._triton_model import requests, write_python_model
from ._triton_options import Serving
from .graph import ONNX_RUNTIME
from .tensorrt_export import MANIFEST_FILE, PLAN_FILE, PlanOptions, write_plan
from .triton_preparation import PREPARATION_FOLDER, embedder_of, longest_of, write_preparation

# On a GPU each shape is an engine or a plan's profile: few lengths. On a CPU only padding costs.
_GPU_LENGTHS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048)
_CPU_STEP: Final = 16
_USUAL_BATCH: Final = 8
_USUAL_LENGTH: Final = 64
_PREPARATION_MODEL: Final = ("routellm_fast.export", "PreparationModel")
_DECISION_MODEL: Final = ("routellm_fast.serving.triton_backend", "DecisionModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxBackend:
    """The graph in ONNX Runtime's backend.

    Attributes:
        threads: Threads of each copy of the graph, on the CPU.
        on_gpu: Whether the graph runs on a GPU.
    """

    threads: int = 1
    on_gpu: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBackend:
    """A plan of the graph in TensorRT's backend, which runs on a GPU.

    Attributes:
        runtime: Which TensorRT builds the plan; see export_tensorrt.
        cache: Folder of timings and engines that were built before; see export_tensorrt.
        on_gpu: True.
    """

    runtime: str = "tensorrt"
    cache: Path | None = None
    on_gpu: bool = True


def write_ensemble(
    repository: Path,
    native: Exportable,
    digest: str,
    serving: Serving,
    options: GraphOptions,
    backend: OnnxBackend | PlanBackend,
) -> tuple[list[Model], ExportReport]:
    """Write an ensemble around a router's graph.

    Args:
        repository: Where the models' folders are made.
        native: The router.
        digest: The router's digest.
        serving: How the models are served.
        options: How the graph is made and compared.
        backend: What runs the graph.

    Returns:
        The models, the ensemble before its steps, and the report of the graph.
    """
    lengths = _lengths(longest_of(native), on_gpu=backend.on_gpu)
    with _scratch(repository) as folder:
        report = _write_graph(native, digest, folder, serving.batching, lengths, options, backend)
        ensemble, tokenize, graph, decide = _models(native, lengths, serving, backend)
        models = [ensemble, tokenize, graph, decide]
        folders = {model.name: model.write(repository, serving.version) for model in models}
        write_preparation(native, folders[tokenize.name] / PREPARATION_FOLDER, lengths)
        write_python_model(folders[tokenize.name], *_PREPARATION_MODEL)
        write_python_model(folders[decide.name], *_DECISION_MODEL)
        names = (PLAN_FILE, MANIFEST_FILE) if isinstance(backend, PlanBackend) else (MODEL_FILE, DATA_FILE)
        for path in (folder / name for name in names):
            if path.exists():
                path.rename(folders[graph.name] / path.name)
    return models, report


def _write_graph(
    native: Exportable,
    digest: str,
    folder: Path,
    batching: Batching,
    lengths: Sequence[int],
    options: GraphOptions,
    backend: OnnxBackend | PlanBackend,
) -> ExportReport:
    if isinstance(backend, OnnxBackend):
        return write_onnx(native, digest, folder, options, ONNX_RUNTIME)
    most, longest = batching.max_size, lengths[-1]
    plan = PlanOptions(
        batch=(1, min(_USUAL_BATCH, most), most),
        length=(1, min(_USUAL_LENGTH, longest), longest) if native.inputs == "tokens" else None,
        runtime=backend.runtime,
        cache=backend.cache,
    )
    return write_plan(native, digest, folder, options, plan)


def _models(
    native: Exportable, lengths: Sequence[int], serving: Serving, backend: OnnxBackend | PlanBackend
) -> tuple[Model, Model, Model, Model]:
    """Return the ensemble and its steps."""
    batching = serving.batching
    dim = native.widths.get(EMBEDDINGS)
    inputs = router_inputs(takes_prompts=dim is None or embedder_of(native) is not None, dim=dim)
    asked = [tensor for tensor in inputs if tensor.name != THRESHOLD]
    feeds = _graph_inputs(native)
    flat = Tensor(WIN_RATE, "FP32", is_flat=True)
    tokenize, graph, decide = (f"{serving.name}_{step}" for step in ("tokenize", "graph", "decide"))
    return (
        Model(
            serving.name,
            "",
            inputs,
            DECISION,
            batching,
            platform="ensemble",
            parameters=serving.parameters,
            response_cache=serving.response_cache,
            steps=(
                (tokenize, _same(asked), _same(feeds)),
                (graph, _same(feeds), _same([flat])),
                (decide, _same([flat, OPTIONAL_THRESHOLD]), _same(DECISION)),
            ),
        ),
        Model(tokenize, "python", asked, feeds, batching, warmup=requests(asked, batching.max_size)),
        _graph_model(graph, feeds, flat, replace(batching, on_gpu=backend.on_gpu), lengths, backend),
        Model(
            decide,
            "python",
            [replace(flat, is_flat=False), OPTIONAL_THRESHOLD],
            DECISION,
            batching,
            parameters={key: value for key, value in serving.parameters.items() if key != CALIBRATION},
            warmup=[(1, {flat.name: np.full(1, 0.5, np.float32)})],
        ),
    )


def _graph_model(
    name: str,
    feeds: Sequence[Tensor],
    win_rate: Tensor,
    batching: Batching,
    lengths: Sequence[int],
    backend: OnnxBackend | PlanBackend,
) -> Model:
    warmup = _graph_warmup(feeds, lengths, batching)
    if isinstance(backend, PlanBackend):
        return Model(name, "tensorrt", feeds, [win_rate], batching, platform="tensorrt_plan", warmup=warmup)
    parameters = {
        "intra_op_thread_count": str(backend.threads),
        "inter_op_thread_count": "1",
        "execution_mode": "0",
    }
    return Model(
        name,
        "onnxruntime",
        feeds,
        [win_rate],
        batching,
        platform="onnxruntime_onnx",
        parameters=parameters,
        warmup=warmup,
    )


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
