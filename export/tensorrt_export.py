"""From a router directory to a TensorRT plan, by way of an ONNX graph that was compared with the router."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.errors import ArtifactFormatError, ForeignExportError, InvalidArgumentError
from routellm_fast.json_file import read_json_object
from routellm_fast.kept_file import read_kept, write_kept
from routellm_fast.routers.loading import router_directory

from ._directory import export_directory
from ._exportable import Exportable, exportable
from ._gpu import current_gpu
from ._metadata import router_digest
from ._model_file import MODEL_FILE
from ._onnx_export import GraphOptions, write_onnx
from ._report import ExportReport
from ._source import read_source
from .graph import TENSORRT
from .tensorrt_engine import Engine, Profile, build_engine, tensorrt_module

if TYPE_CHECKING:
    from routellm_fast.embedders.base import Embedder
    from routellm_fast.evaluation import Benchmark

PLAN_FILE: Final = "model.plan"
MANIFEST_FILE: Final = "engine.json"
# Precisions that a typed network takes from a graph; int8 needs QDQ.
TENSORRT_PRECISIONS: Final = ("float32", "float16", "bfloat16", "int8-static")

Range = tuple[int, int, int]
_LENGTH: Final = (1, 64, 512)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """How a plan is built of a graph; see export_tensorrt.

    Attributes:
        batch: Least, usual and largest number of prompts at once.
        length: Least, usual and largest number of tokens of a prompt; None for (1, 64, 512), and where the graph reads
            no tokens.
        runtime: One of RUNTIMES.
        targets: Compute capabilities.
        cache: Folder of timings and engines; None for none.
    """

    batch: Range = (1, 8, 64)
    length: Range | None = None
    runtime: str = "auto"
    targets: Sequence[str] = ()
    cache: Path | None = None

    def __post_init__(self) -> None:
        """Refuse ranges that are none."""
        for what, (least, usual, largest) in (("batch", self.batch), ("length", self.length or _LENGTH)):
            if not 1 <= least <= usual <= largest:
                raise InvalidArgumentError(
                    f"{what} needs 1 <= least <= usual <= largest, found {least}, {usual}, {largest}"
                )


def export_tensorrt(
    router: str | Path,
    out: str | Path,
    *,
    inputs: str = "auto",
    precision: str = "float32",
    batch: Range = (1, 8, 64),
    length: Range | None = None,
    runtime: str = "auto",
    targets: Sequence[str] = (),
    cache: str | Path | None = None,
    prompts: Sequence[str] = (),
    bound: float | None = None,
    benchmarks: Sequence[Benchmark] = (),
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
) -> ExportReport:
    """Write a router as a TensorRT plan: model.plan, engine.json, model.onnx and export-report.json.

    The graph is verified, on the CPU; the plan's precision is looked up in the network and, where there is a GPU that
    can load it, in the engine.

    Args:
        router: A router directory, or the kind of one that ships.
        out: Directory to write; the files of an earlier export there are replaced, and all else stays.
        inputs: See export_onnx.
        precision: float32, float16, bfloat16 or int8-static.
        batch: Least, usual and largest number of prompts at once.
        length: Least, usual and largest number of tokens of a prompt, where the graph reads tokens; None for
            (1, 64, 512).
        runtime: "tensorrt", "tensorrt_rtx" or "auto".
        targets: Compute capabilities that TensorRT-RTX builds for, e.g. "8.9"; none: all that it knows.
        cache: Folder of timings and engines; an engine for the same router, GPU, driver, TensorRT and shapes is not
            built again.
        prompts: See export_onnx.
        bound: See export_onnx.
        benchmarks: See export_onnx.
        embedder: See export_onnx.
        allow_server: See export_onnx.

    Raises:
        EngineBuildError: TensorRT refuses the graph.
        MissingExtraError: TensorRT, onnx or onnxruntime is not installed.
        InvalidArgumentError: A range breaks its rule, TensorRT has no such precision, or a length was given for a
            graph that reads no tokens.
        UnsupportedExportError, ExportMismatchError, ArtifactError, UntrustedServerError: See export_onnx.
    """
    check_plan_precision(precision)
    options = GraphOptions(precision=precision, prompts=prompts, bound=bound, benchmarks=benchmarks)
    plan = PlanOptions(
        batch=batch, length=length, runtime=runtime, targets=targets, cache=Path(cache) if cache else None
    )
    tensorrt_module(runtime)  # a runtime that is missing is found before the work
    source = read_source(router, embedder=embedder, allow_server=allow_server)
    native = exportable(source.router, inputs)
    with export_directory(Path(out)) as staging:
        return write_plan(native, source.digest, staging, options, plan)


def check_plan_precision(precision: str) -> None:
    """Raise InvalidArgumentError unless TensorRT takes this precision from a graph."""
    if precision not in TENSORRT_PRECISIONS:
        raise InvalidArgumentError(
            f"TensorRT's precision is one of {', '.join(TENSORRT_PRECISIONS)}, found {precision!r}"
        )


def write_plan(native: Exportable, digest: str, folder: Path, options: GraphOptions, plan: PlanOptions) -> ExportReport:
    """Write graph, report, plan and engine.json into a folder, or raise; see `export_tensorrt`."""
    if native.inputs == "embeddings" and plan.length is not None:
        raise InvalidArgumentError("length is of graphs that read tokens, this one reads embeddings: leave it out")
    trt = tensorrt_module(plan.runtime)
    report = write_onnx(native, digest, folder, options, TENSORRT)
    model = folder / MODEL_FILE
    profiles = _profiles(native, plan.batch, plan.length or _LENGTH)
    target = _target(trt, digest, options.precision, profiles, plan.targets, model)
    engine = _cached_engine(model, profiles, trt.__name__, target, plan.cache)
    (folder / PLAN_FILE).write_bytes(engine.plan)
    manifest = {
        **target,
        "plan_bytes": len(engine.plan),
        "plan_sha256": hashlib.sha256(engine.plan).hexdigest(),
        "network_types": dict(engine.network_types),
        "engine_types": None if engine.engine_types is None else dict(engine.engine_types),
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return report


def check_plan(folder: str | Path, router: str | Path) -> dict[str, Any]:
    """Return engine.json of an exported plan, if it is of this router and may run here.

    Raises:
        ForeignExportError: It is of another router, damaged, or built for another GPU or driver. Export it here.
    """
    folder = Path(folder)
    try:
        manifest = read_json_object(folder / MANIFEST_FILE)
        found = hashlib.sha256((folder / PLAN_FILE).read_bytes()).hexdigest()
        expected = {key: manifest[key] for key in ("plan_sha256", "router_digest", "gpu")}
    except (OSError, ArtifactFormatError, KeyError) as error:
        raise ForeignExportError(
            f"{folder} holds no plan with its {MANIFEST_FILE}: {error}. Export the router again."
        ) from error
    gpu = current_gpu()
    here = {
        "plan_sha256": found,
        "router_digest": router_digest(router_directory(router)),
        # A plan that was built without a GPU is for all that its TensorRT-RTX supports.
        "gpu": None if expected["gpu"] is None else None if gpu is None else asdict(gpu),
    }
    for key, value in here.items():
        if value != expected[key]:
            raise ForeignExportError(
                f"{folder / PLAN_FILE} is for {key} {expected[key]}, here it is {value}. Export the router here."
            )
    return dict(manifest)


def _profiles(native: Exportable, batch: Range, length: Range) -> dict[str, Profile]:
    def shapes(width: int | None) -> Profile:
        least, usual, largest = (
            (count, tokens if width is None else width) for count, tokens in zip(batch, length, strict=True)
        )
        return least, usual, largest

    return {name: shapes(width) for name, width in native.widths.items()}


def _target(
    trt: Any, digest: str, precision: str, profiles: Mapping[str, Profile], targets: Sequence[str], model: Path
) -> dict[str, Any]:
    """Return all that an engine depends on."""
    gpu = current_gpu()
    return {
        "router_digest": digest,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "precision": precision,
        "profiles": {name: [list(shape) for shape in shapes] for name, shapes in profiles.items()},
        "compute_capabilities": sorted(targets),
        "runtime": trt.__name__,
        "runtime_version": trt.__version__,
        "gpu": None if gpu is None else asdict(gpu),
    }


def _cached_engine(
    model: Path, profiles: Mapping[str, Profile], runtime: str, target: Mapping[str, Any], cache: Path | None
) -> Engine:
    if cache is None:
        return build_engine(model, profiles, runtime=runtime, targets=target["compute_capabilities"])
    key = hashlib.sha256(json.dumps(target, sort_keys=True).encode()).hexdigest()[:32]
    kept = _read_engine(cache / f"{key}.engine")
    if kept is not None:
        return kept
    machine = json.dumps([target["gpu"], target["runtime"], target["runtime_version"]])
    timings = cache / f"{hashlib.sha256(machine.encode()).hexdigest()[:16]}.timing"
    engine = build_engine(
        model, profiles, runtime=runtime, targets=target["compute_capabilities"], timing_cache=timings
    )
    types = {
        "network_types": dict(engine.network_types),
        "engine_types": None if engine.engine_types is None else dict(engine.engine_types),
    }
    write_kept(cache / f"{key}.engine", json.dumps(types).encode() + b"\n" + engine.plan)
    return engine


def _read_engine(file: Path) -> Engine | None:
    content = read_kept(file)
    if content is None:
        return None
    types, _, plan = content.partition(b"\n")
    known = json.loads(types)
    return Engine(plan, known["network_types"], known["engine_types"])
