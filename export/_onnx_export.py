"""From a router directory to a directory with an ONNX graph that was compared with the router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast import _core
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.similarity.router import SimilarityWeightedRouter

from ._directory import export_directory
from ._exportable import Exportable, exportable
from ._metadata import metadata_of
from ._model_file import MAX_INLINE_BYTES, write_model
from ._onnx_example import write_example
from ._precision import bound_of, check_precision, with_precision
from ._probes import PROBES
from ._report import ExportReport
from ._source import read_source
from ._verification import ExportedRouter, batches, verify
from .graph import ONNX_RUNTIME, Dialect

if TYPE_CHECKING:
    from routellm_fast.embedders.base import Embedder
    from routellm_fast.evaluation import Benchmark


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOptions:
    """How a graph is made and held against its router; see export_onnx.

    Attributes:
        precision: One of PRECISIONS.
        prompts: On which graph and router are compared; none: PROBES.
        bound: The largest difference of win rates allowed; None for the precision's own.
        benchmarks: On which APGR is compared.
    """

    precision: str = "float32"
    prompts: Sequence[str] = ()
    bound: float | None = None
    benchmarks: Sequence[Benchmark] = ()

    def __post_init__(self) -> None:
        """Refuse what no graph can be made with."""
        check_precision(self.precision)
        if self.bound is not None and not 0.0 <= self.bound <= 1.0:
            raise InvalidArgumentError(f"a bound on differences of win rates lies in [0, 1], found {self.bound}")


def export_onnx(
    router: str | Path,
    out: str | Path,
    *,
    inputs: str = "auto",
    precision: str = "float32",
    prompts: Sequence[str] = (),
    bound: float | None = None,
    benchmarks: Sequence[Benchmark] = (),
    embedder: Embedder | None = None,
    allow_server: str | Sequence[str] | None = None,
    max_inline_bytes: int = MAX_INLINE_BYTES,
) -> ExportReport:
    """Write a router as ONNX: model.onnx, its tokenizer.json, example.py and export-report.json, whole or not at all.

    Args:
        router: A router directory, or the kind of one that ships.
        out: Directory to write; the files of an earlier export there are replaced, and all else stays.
        inputs: What the graph reads: "tokens", "embeddings", or "auto"; see `exportable`.
        precision: "float32", "float16", "bfloat16", "int8" (scales of activations found at run time), or
            "int8-static" (QDQ, scales chosen on the prompts).
        prompts: On which the graph is compared with the router, and by which int8-static is calibrated; none: some of
            all sorts.
        bound: The largest difference of win rates allowed; None for the precision's own.
        benchmarks: On which APGR is compared.
        embedder: The router's embedder, where its directory does not hold it.
        allow_server: The server that the directory's embedder may ask; see load_router.
        max_inline_bytes: Weights beyond this are put into a file of their own.

    Raises:
        UntrustedServerError: The directory names a server that allow_server does not.
        ArtifactError: There is no such router, or `out` cannot be written.
        UnsupportedExportError: The router has no such form.
        ExportMismatchError: The graph's win rates differ by more than the bound.
        InvalidArgumentError: An unknown precision or kind of inputs, or int8-static without prompts.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    options = GraphOptions(precision=precision, prompts=prompts, bound=bound, benchmarks=benchmarks)
    source = read_source(router, embedder=embedder, allow_server=allow_server)
    native = exportable(source.router, inputs)
    with export_directory(Path(out)) as staging:
        report = write_onnx(native, source.digest, staging, options, ONNX_RUNTIME, max_inline_bytes)
        write_example(native, staging, precision)
        return report


def write_onnx(
    native: Exportable,
    digest: str,
    folder: Path,
    options: GraphOptions,
    dialect: Dialect,
    max_inline_bytes: int = MAX_INLINE_BYTES,
) -> ExportReport:
    """Write model.onnx and its report into a folder, or raise; see `export_onnx`.

    Args:
        native: The router.
        digest: The router's digest; see router_digest.
        folder: An empty folder.
        options: How the graph is made and compared.
        dialect: What the run time of the graph can do.
        max_inline_bytes: See export_onnx.
    """
    precision, prompts = options.precision, options.prompts
    bound = bound_of(native.router.kind, precision) if options.bound is None else options.bound
    metadata = metadata_of(native.router, digest, native.inputs, precision)
    model: Any = native.build(metadata, _core.__version__, dialect)
    samples = [native.feeds(batch) for batch in batches(prompts)] if precision == "int8-static" else []
    model = with_precision(model, precision, native.keep, samples)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    path = write_model(model, folder, max_inline_bytes=max_inline_bytes)
    del model
    report = verify(
        native,
        ExportedRouter(path, native, digest),
        prompts or PROBES,
        bound=bound,
        model_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        opset=opset,
        benchmarks=options.benchmarks,
        notes=_notes(native, prompts, precision, dialect),
    )
    report.write(folder)
    return report


def _notes(native: Exportable, prompts: Sequence[str], precision: str, dialect: Dialect) -> list[str]:
    notes = []
    if not prompts:
        notes.append("verified on the exporter's own prompts; give --prompts for yours")
    if precision == "int8":
        notes.append("int8 takes its scales from all prompts of a run: a win rate may depend on the batch")
    if isinstance(native.router, SimilarityWeightedRouter):
        notes.append(f"ratings are fitted in {np.dtype(dialect.fit_dtype).name}")
        if native.router.precision != "float32":
            notes.append(f"the router scores with {native.router.precision}; the graph holds its float32 bank")
    if "embeddings" in native.widths and not native.router.has_embedder:
        notes.append("the router has no embedder: verified on vectors in all directions")
    return notes
