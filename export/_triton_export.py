"""From a router directory to a model repository of Triton Inference Server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.decision import check_share
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.serving.triton_protocol import (
    CALIBRATION_FILE,
    CALIBRATION_TABLE,
    DEFAULT_NAME,
    DEFAULT_THRESHOLD,
    STRONG_MODEL,
    WEAK_MODEL,
    calibration_page,
    calibration_parameter,
)

from ._directory import export_directory
from ._exportable import exportable
from ._onnx_export import GraphOptions
from ._report import ExportReport
from ._source import read_source
from ._triton_config import messages
from ._triton_ensemble import write_ensemble
from ._triton_model import write_router_model
from ._triton_options import Serving, batching_of, check_integers, check_mode, check_name, runs_on_gpu
from .tensorrt_engine import tensorrt_module
from .tensorrt_export import PlanOptions, check_plan_precision

if TYPE_CHECKING:
    from routellm_fast.embedders.base import Embedder
    from routellm_fast.routers.base import Router

MARKER_FILE: Final = "triton-export.json"


@dataclass(frozen=True, slots=True)
class TritonExport:
    """What was written.

    Attributes:
        mode: One of MODES.
        name: Name of the model that clients ask.
        models: All models of the repository.
        kind: The router's kind.
        router_digest: The router's digest; see router_digest.
        inputs: What the model takes: PROMPT, EMBEDDING, THRESHOLD.
        graph: How far the graph is from the router; None in the modes without a graph.
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
    digest: str | None = None,
    default_threshold: float | None = None,
    strong_share: float | None = None,
    max_batch_size: int = 64,
    max_queue_delay_us: int = 100,
    preferred_batch_sizes: Sequence[int] = (8, 32),
    instances: int = 1,
    threads: int | None = None,
    device: str | None = None,
    response_cache: bool = False,
    inputs: str | None = None,
    precision: str | None = None,
    prompts: Sequence[str] | None = None,
    bound: float | None = None,
    runtime: str | None = None,
    cache: str | Path | None = None,
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
) -> TritonExport:
    """Write a model repository that serves a router, whole or not at all.

    Every mode has the same tensors: PROMPT (BYTES) or EMBEDDING (FP32), and THRESHOLD if wanted, to WIN_RATE, IS_STRONG
    and MODEL. A router without an embedder takes no PROMPT, one that reads text itself no EMBEDDING.

    Options from `threads` on are None where they are not given; one that the mode has no use for is refused.

    Args:
        router: A router directory, or the kind of one that ships.
        out: Directory to write; the files of an earlier export there are replaced, and all else stays.
        mode: "native" (this package's own backend, no Python), "python" (Triton's Python backend with this package
            installed), "onnx" (an ensemble around the graph in ONNX Runtime's backend) or "tensorrt" (around a plan).
        name: Name of the model that clients ask; the names of an ensemble's steps begin with it.
        version: Version of the models, an integer of at least 1.
        strong_model: Name of the strong model; None for the stored one.
        weak_model: Name of the weak model; None for the stored one.
        digest: What the digest of the router's directory must be; see load_router. In modes native and python the
            server then checks the router that is written here in the same way, by a parameter of the model: it serves
            these bytes and no others. None for neither check.
        default_threshold: Threshold, in [0, 1], for requests that bring none; None for the calibrated one of a strong
            share of 50 %.
        strong_share: Instead of default_threshold: the one that sends this share of the calibration prompts to the
            strong model.
        max_batch_size: Most prompts that are scored at once.
        max_queue_delay_us: How long a request waits for others to share a batch with, in microseconds.
        preferred_batch_sizes: A batch that has reached one of these sizes does not wait; sizes above max_batch_size
            are left out.
        instances: How many copies of each model run at once.
        threads: Threads of each copy, in modes native and onnx, and in mode python for a bert router; None for 1, which
            serves most requests a second.
        device: What runs the graph in mode onnx, "cpu" or "cuda"; None for "cpu".
        response_cache: Whether Triton may answer equal requests from its cache.
        inputs: What the graph reads, in modes onnx and tensorrt; see export_onnx.
        precision: Precision of the graph, in modes onnx and tensorrt; see export_onnx.
        prompts: On which graph and router are compared, in modes onnx and tensorrt; see export_onnx.
        bound: The largest difference of win rates allowed, in modes onnx and tensorrt; see export_onnx.
        runtime: Which TensorRT builds the plan, in mode tensorrt; None for "tensorrt", whose plans Triton's own backend
            reads. See export_tensorrt.
        cache: Folder of timings and engines that were built before, in mode tensorrt; see export_tensorrt.
        embedder: The router's embedder, where its directory does not hold it.
        allow_server: The server that the directory's embedder may ask, here and where the model is served; see
            load_router.

    Raises:
        UnsupportedExportError: The router has no such form.
        InvalidArgumentError, InvalidThresholdError: An argument breaks its rule, or would do nothing in this mode, or
            no threshold is given and the router has no calibration.
        MissingExtraError: The extra `triton` is not installed, or what the graph needs.
        UntrustedServerError: The directory names a server that allow_server does not.
        ArtifactError: There is no such router, or `out` cannot be written, or holds what is no export.
        ExportMismatchError, EngineBuildError: See export_onnx and export_tensorrt.
    """
    on_gpu = runs_on_gpu("cpu" if device is None else device)
    check_mode(
        mode, threads=threads, inputs=inputs, precision=precision, prompts=prompts, bound=bound, device=device,
        runtime=runtime, cache=cache,
    )  # fmt: skip
    options = GraphOptions(precision="float32" if precision is None else precision, prompts=prompts or (), bound=bound)
    if default_threshold is not None and strong_share is not None:
        raise InvalidArgumentError("give default_threshold or strong_share, not both")
    threshold = None if default_threshold is None else check_share(default_threshold, "default threshold")
    check_name(name)
    check_integers(("version", version, 1), ("threads", 1 if threads is None else threads, 1))
    batching = batching_of(max_batch_size, max_queue_delay_us, preferred_batch_sizes, instances)
    plan: PlanOptions | None = None
    if mode == "tensorrt":
        check_plan_precision(options.precision)
        plan = PlanOptions(runtime="tensorrt" if runtime is None else runtime, cache=Path(cache) if cache else None)
        tensorrt_module(plan.runtime)
    messages()  # a missing extra is found before the work
    source = read_source(
        router,
        embedder=embedder,
        allow_server=allow_server,
        strong_model=strong_model,
        weak_model=weak_model,
        digest=digest,
    )
    if strong_share is not None:
        threshold = source.router.threshold_for(strong_share)
    elif threshold is None:
        threshold = _calibrated(source.router)
    serving = Serving(name, version, batching, response_cache, _parameters(source.router, threshold))
    graph: ExportReport | None = None
    with export_directory(Path(out), marker=MARKER_FILE) as staging:
        if mode in ("native", "python"):
            models = write_router_model(
                staging, source.router, serving, is_native=mode == "native", threads=threads,
                is_checked=digest is not None,
            )  # fmt: skip
        else:
            native = exportable(source.router, "auto" if inputs is None else inputs)
            models, graph = write_ensemble(
                staging, native, source.digest, serving, options, plan=plan, threads=threads or 1,
                on_gpu=on_gpu or plan is not None,
            )  # fmt: skip
        if source.router.calibration is not None:
            page = calibration_page(source.router.calibration)
            (staging / name / CALIBRATION_FILE).write_text(page, encoding="utf-8")
        export = TritonExport(
            mode, name, tuple(model.name for model in models), source.router.kind, source.digest,
            tuple(tensor.name for tensor in models[0].inputs), graph,
        )  # fmt: skip
        content = json.dumps(export.to_json(), indent=1, sort_keys=True) + "\n"
        (staging / MARKER_FILE).write_text(content, encoding="utf-8")
    return export


def _calibrated(router: Router) -> float:
    try:
        return router.default_threshold
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            "this router has no calibration, so nothing says which threshold requests without one should get: give "
            "default_threshold (--default-threshold), or calibrate the router on prompts like your traffic"
        ) from error


def _parameters(router: Router, threshold: float) -> dict[str, str]:
    parameters = {
        STRONG_MODEL: router.model_pair.strong,
        WEAK_MODEL: router.model_pair.weak,
        DEFAULT_THRESHOLD: repr(float(threshold)),
    }
    if router.calibration is not None:
        parameters[CALIBRATION_TABLE] = calibration_parameter(router.calibration)
    return parameters
