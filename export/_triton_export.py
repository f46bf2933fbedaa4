"""From a router directory to a model repository of Triton Inference Server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.decision import check_share
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.embedders.stored import store_embedder
from routellm_fast.errors import (
    ArtifactWriteError,
    EmbedderUnavailableError,
    InvalidArgumentError,
    UnsupportedExportError,
)
from routellm_fast.routers.base import Router
from routellm_fast.routers.embedding import EmbeddingRouter
from routellm_fast.routers.loading import load_router, router_directory
from routellm_fast.serving.triton_protocol import (
    CALIBRATION,
    DEFAULT_NAME,
    DEFAULT_THRESHOLD,
    DEVICE,
    PROMPT,
    ROUTER_FOLDER,
    STRONG_MODEL,
    THREADS,
    THRESHOLD,
    WEAK_MODEL,
    calibration_parameter,
)

from ._exportable import Exportable, exportable
from ._metadata import router_digest
from ._model_file import DATA_FILE, MODEL_FILE
from ._onnx_export import export_directory, export_onnx
from ._report import ExportReport
from ._scorer_graphs import EMBEDDINGS
from ._static_graph import ATTENTION_MASK, INPUT_IDS, SURFACE_FEATURES
from ._tensorrt_export import MANIFEST_FILE, PLAN_FILE, export_tensorrt
from ._triton_config import (
    DECISION,
    OPTIONAL_THRESHOLD,
    WARMUP_PROMPT,
    Batching,
    Model,
    Tensor,
    messages,
    router_inputs,
)
from ._triton_preparation import PREPARATION_FOLDER, embedder_of, longest_of, write_preparation

if TYPE_CHECKING:
    from routellm_fast.embedders.base import Embedder

MODES: Final = ("native", "python", "onnx", "tensorrt")
MARKER_FILE: Final = "triton-export.json"
# What the core loads by itself: the native backend has no other run time.
_NATIVE_KINDS: Final = ("mf", "sw_ranking")
_DEVICES: Final = ("cpu", "gpu")
# On a GPU each shape is an engine or a plan's profile: few lengths. On a CPU only padding costs.
_GPU_LENGTHS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048)
_CPU_STEP: Final = 16

_MODEL_FILE: Final = "model.py"
_MODEL_TEXT: Final = '''"""Written by `routellm-fast export triton`; the code is in the installed package."""

from {module} import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
_ROUTER_MODEL: Final = ("routellm_fast.serving.triton_backend", "RouterModel")
_PREPARATION_MODEL: Final = ("routellm_fast.export", "PreparationModel")
_DECISION_MODEL: Final = ("routellm_fast.serving.triton_backend", "DecisionModel")


@dataclass(frozen=True, slots=True)
class TritonExport:
    """What was written.

    Attributes:
        mode: One of MODES.
        name: Of the model that is asked.
        models: All models of the repository.
        kind: Of the router.
        router_digest: Of the router.
        inputs: What the model takes: PROMPT, EMBEDDING, THRESHOLD.
        graph: What the graph was found to be; None in the modes that have none.
    """

    mode: str
    name: str
    models: tuple[str, ...]
    kind: str
    router_digest: str
    inputs: tuple[str, ...]
    graph: ExportReport | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return asdict(self)


def export_triton(
    router: str | Path,
    out: str | Path,
    *,
    mode: str = "python",
    name: str = DEFAULT_NAME,
    version: int = 1,
    strong_model: str | None = None,
    weak_model: str | None = None,
    default_threshold: float = 0.5,
    max_batch_size: int = 64,
    max_queue_delay_us: int = 100,
    preferred_batch_sizes: Sequence[int] = (8, 32),
    instances: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    response_cache: bool = False,
    inputs: str = "auto",
    precision: str = "float32",
    prompts: Sequence[str] = (),
    bound: float | None = None,
    runtime: str = "tensorrt",
    cache: str | Path | None = None,
    embedder: Embedder | None = None,
) -> TritonExport:
    """Write a model repository that serves a router, whole or not at all.

    Every mode has the same tensors: PROMPT (BYTES) or EMBEDDING (FP32), and THRESHOLD if wanted, to WIN_RATE, IS_STRONG
    and MODEL. A router without an embedder takes no PROMPT, one that reads text itself no EMBEDDING.

    Args:
        router: A router directory, or the kind of one that ships.
        out: Directory to write; an earlier export there is replaced.
        mode: "native" (this package's own backend, no Python), "python" (Triton's Python backend with this package
            installed), "onnx" (an ensemble around the graph in ONNX Runtime's backend) or "tensorrt" (around a plan).
        name: Of the model; those of an ensemble's steps begin with it.
        version: Of the model, its version folder.
        strong_model: Where prompts are sent; None for the stored name.
        weak_model: See strong_model.
        default_threshold: Of requests that bring none.
        max_batch_size: Most rows that are scored at once.
        max_queue_delay_us: How long a request waits for others.
        preferred_batch_sizes: Batches of these sizes do not wait; those above max_batch_size are left out.
        instances: Copies of each model that run at once.
        threads: Of a copy, where it has threads of its own; None for 1, which serves most requests a second.
        device: Of the graph in mode onnx, "cpu" or "gpu"; mode tensorrt is for GPUs.
        response_cache: Whether Triton may answer equal requests from its cache.
        inputs: Of the graph; see export_onnx.
        precision: Of the graph; see export_onnx.
        prompts: To verify the graph on; see export_onnx.
        bound: See export_onnx.
        runtime: That builds the plan; see export_tensorrt. Triton's own backend reads plans of "tensorrt".
        cache: See export_tensorrt.
        embedder: Of a router whose directory does not hold it.

    Raises:
        UnsupportedExportError: The router has no such form.
        InvalidArgumentError, InvalidThresholdError: An argument breaks its rule.
        MissingExtraError: The extra `triton` is not installed, or what the graph needs.
        ArtifactError: There is no such router, or `out` cannot be written, or holds what is no export.
        ExportMismatchError, EngineBuildError: See export_onnx and export_tensorrt.
    """
    _check_choice("mode", mode, MODES)
    _check_choice("device", device, _DEVICES)
    check_share(default_threshold, "default threshold")
    _check_name(name)
    for what, number, least in (
        ("version", version, 1),
        ("max_batch_size", max_batch_size, 1),
        ("max_queue_delay_us", max_queue_delay_us, 0),
        ("instances", instances, 1),
        ("threads", threads or 1, 1),
        *(("preferred_batch_sizes", size, 1) for size in preferred_batch_sizes),
    ):
        if type(number) is not int or number < least:
            raise InvalidArgumentError(f"{what} is an integer of at least {least}, found {number!r}")
    if mode == "tensorrt" and threads is not None:
        raise InvalidArgumentError("a plan runs on a GPU: it takes no threads")
    messages()  # a missing extra is found before the work
    directory = router_directory(router)
    loaded = load_router(directory, embedder=embedder, strong_model=strong_model, weak_model=weak_model)
    sizes = tuple(sorted({size for size in preferred_batch_sizes if size <= max_batch_size}))
    job = _Job(
        directory=directory,
        router=loaded,
        digest=router_digest(directory),
        mode=mode,
        name=name,
        version=version,
        batching=Batching(max_batch_size, max_queue_delay_us, sizes, instances),
        threads=threads or 1,
        response_cache=response_cache,
        parameters={
            STRONG_MODEL: loaded.model_pair.strong,
            WEAK_MODEL: loaded.model_pair.weak,
            DEFAULT_THRESHOLD: repr(float(default_threshold)),
            **({} if loaded.calibration is None else {CALIBRATION: calibration_parameter(loaded.calibration)}),
        },
    )
    out = Path(out)
    _check_replaceable(out)
    with export_directory(out, marker=MARKER_FILE) as staging:
        if mode in ("native", "python"):
            models, graph = job.write_whole(staging), None
        else:
            shared: dict[str, Any] = {"inputs": inputs, "precision": precision, "prompts": prompts, "bound": bound}
            with _scratch(staging) as folder:
                if mode == "onnx":
                    graph = export_onnx(directory, folder, embedder=embedder, **shared)
                    native, lengths, on_gpu = _graph_of(loaded, inputs, on_gpu=device == "gpu")
                else:
                    native, lengths, on_gpu = _graph_of(loaded, inputs, on_gpu=True)
                    graph = export_tensorrt(
                        directory,
                        folder,
                        embedder=embedder,
                        batch=(1, min(8, max_batch_size), max_batch_size),
                        length=(1, min(64, lengths[-1]), lengths[-1]),
                        runtime=runtime,
                        cache=cache,
                        **shared,
                    )
                models = job.write_ensemble(staging, native, lengths, folder, on_gpu=on_gpu)
        export = TritonExport(
            mode, name, tuple(model.name for model in models), loaded.kind, job.digest,
            tuple(tensor.name for tensor in models[0].inputs), graph,
        )  # fmt: skip
        content = json.dumps(export.to_json(), indent=1, sort_keys=True) + "\n"
        (staging / MARKER_FILE).write_text(content, encoding="utf-8")
    return export


@dataclass(frozen=True, slots=True)
class _Job:
    """An export with its arguments checked."""

    directory: Path
    router: Router
    digest: str
    mode: str
    name: str
    version: int
    batching: Batching
    threads: int
    response_cache: bool
    parameters: Mapping[str, str]

    def write_whole(self, repository: Path) -> list[Model]:
        """Write the one model of the modes native and python: the router directory itself is served."""
        router, is_native = self.router, self.mode == "native"
        if is_native and router.kind not in _NATIVE_KINDS:
            raise UnsupportedExportError(
                f"the native backend serves {', '.join(_NATIVE_KINDS)}, not {router.kind}: take mode python, or onnx"
            )
        # With a name of its own it says which settings a kind takes; the others run in the core, on one thread.
        own = {"threads": str(self.threads)} if is_native or THREADS in router.runtime_options else {}
        own |= {DEVICE: "cpu"} if not is_native and DEVICE in router.runtime_options else {}
        inputs = router_inputs(
            takes_prompts=_takes_prompts(router, by_core=is_native),
            dim=router.dim if isinstance(router, EmbeddingRouter) else None,
        )
        if len(inputs) == 1:
            raise UnsupportedExportError("the router takes neither prompts nor embeddings in this mode")
        model = Model(
            self.name,
            "routellm" if is_native else "python",
            inputs,
            DECISION,
            self.batching,
            parameters={**self.parameters, **own},
            warmup=self._warmup(inputs),
            response_cache=self.response_cache,
        )
        folder = model.write(repository, self.version)
        # Saved again, a router that refers to a table of the package holds it.
        router.save(folder / ROUTER_FOLDER)
        if not is_native:
            _write_model(folder, *_ROUTER_MODEL)
        return [model]

    def write_ensemble(
        self, repository: Path, native: Exportable, lengths: Sequence[int], graph: Path, *, on_gpu: bool
    ) -> list[Model]:
        """Write the ensemble tokenize → graph → decide, and return it before its steps."""
        reads_embeddings = EMBEDDINGS in native.widths
        dim = native.widths[EMBEDDINGS] if reads_embeddings else None
        inputs = router_inputs(takes_prompts=not reads_embeddings or embedder_of(native) is not None, dim=dim)
        asked = [tensor for tensor in inputs if tensor.name != THRESHOLD]
        feeds = _graph_inputs(native)
        flat = Tensor("win_rate", "FP32", is_flat=True)
        tokenize, middle, decide = (f"{self.name}_{step}" for step in ("tokenize", "graph", "decide"))
        is_plan = self.mode == "tensorrt"
        threads = str(self.threads)
        models = [
            Model(
                self.name,
                "",
                inputs,
                DECISION,
                self.batching,
                platform="ensemble",
                parameters=self.parameters,
                response_cache=self.response_cache,
                steps=(
                    (tokenize, _same(asked), _same(feeds)),
                    (middle, _same(feeds), _same([flat])),
                    (decide, _same([flat, OPTIONAL_THRESHOLD]), _same(DECISION)),
                ),
            ),
            Model(tokenize, "python", asked, feeds, self.batching, warmup=self._warmup(asked)),
            Model(
                middle,
                "tensorrt" if is_plan else "onnxruntime",
                feeds,
                [flat],
                replace(self.batching, on_gpu=on_gpu),
                platform="tensorrt_plan" if is_plan else "onnxruntime_onnx",
                parameters={}
                if is_plan
                else {"intra_op_thread_count": threads, "inter_op_thread_count": "1", "execution_mode": "0"},
                warmup=_graph_warmup(feeds, lengths, self.batching),
            ),
            Model(
                decide,
                "python",
                [replace(flat, is_flat=False), OPTIONAL_THRESHOLD],
                DECISION,
                self.batching,
                parameters={key: value for key, value in self.parameters.items() if key != CALIBRATION},
                warmup=[(1, {flat.name: np.full(1, 0.5, np.float32)})],
            ),
        ]
        folders = {model.name: model.write(repository, self.version) for model in models}
        write_preparation(native, folders[tokenize] / PREPARATION_FOLDER, lengths)
        _write_model(folders[tokenize], *_PREPARATION_MODEL)
        _write_model(folders[decide], *_DECISION_MODEL)
        names = (PLAN_FILE, MANIFEST_FILE) if is_plan else (MODEL_FILE, DATA_FILE)
        for path in (graph / name for name in names):
            if path.exists():
                path.rename(folders[middle] / path.name)
        return models

    def _warmup(self, inputs: Sequence[Tensor]) -> list[tuple[int, dict[str, Any]]]:
        """One request alone, and as many as a batch holds."""
        first = inputs[0]
        row = WARMUP_PROMPT if first.name == PROMPT else np.ones(first.dims, np.float32)
        return [(count, {first.name: row}) for count in sorted({1, self.batching.max_size})]


def _graph_of(router: Router, inputs: str, *, on_gpu: bool) -> tuple[Exportable, list[int], bool]:
    native = exportable(router, inputs)
    longest = longest_of(native)
    lengths = [length for length in _GPU_LENGTHS if length < longest]
    if not on_gpu:
        lengths = list(range(_CPU_STEP, longest, _CPU_STEP))
    return native, [*lengths, longest], on_gpu


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


def _takes_prompts(router: Router, *, by_core: bool) -> bool:
    if not isinstance(router, EmbeddingRouter):
        return True
    try:
        embedder = router.embedder
    except EmbedderUnavailableError:
        return False
    if by_core:
        return isinstance(embedder, StaticEmbedder) and embedder.native is not None
    return bool(store_embedder(embedder)[0]["kind"] != "external")


def _write_model(folder: Path, module: str, name: str) -> None:
    (folder / _MODEL_FILE).write_text(_MODEL_TEXT.format(module=module, name=name), encoding="utf-8")


def _same(tensors: Sequence[Tensor]) -> dict[str, str]:
    return {tensor.name: tensor.name for tensor in tensors}


@contextmanager
def _scratch(staging: Path) -> Iterator[Path]:
    """A folder for the graph, in the file system of the repository; gone at the end."""
    folder = staging / ".graph"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace a repository that somebody put further models into."""
    try:
        known = json.loads((out / MARKER_FILE).read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    others = sorted({path.name for path in out.iterdir()} - {MARKER_FILE, *known})
    if others:
        raise ArtifactWriteError(
            f"{out} also holds {', '.join(others)}, which would be lost: export elsewhere, or move them away"
        )


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InvalidArgumentError(f"{what} is one of {', '.join(choices)}, found {value!r}")


def _check_name(name: str) -> None:
    if (
        not name
        or not all(letter.isascii() and (letter.isalnum() or letter in "_-.") for letter in name)
        or name[0] == "."
    ):
        raise InvalidArgumentError(
            f"a model's name is of letters, digits, _, - and ., and does not begin with a dot; found {name!r}"
        )
