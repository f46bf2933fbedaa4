"""An exported router and the router itself on the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast import _core
from routellm_fast.errors import ExportMismatchError, InvalidArgumentError, OnnxModelError
from routellm_fast.extras import require
from routellm_fast.onnx import OnnxSession
from routellm_fast.scoring import score_in_batches

from ._exportable import Exportable
from ._metadata import check_metadata
from ._report import ExportReport
from ._scorer_graphs import WIN_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.evaluation import Benchmark

BATCH: Final = 64
# Strong shares whose calibrated thresholds decisions are compared at, and thresholds where there is no calibration.
_SHARES: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
REFERENCE: Final = "onnx reference evaluator"

Run = Callable[[dict[str, "NDArray[Any]"]], "NDArray[np.float64]"]


class ExportedRouter:
    """An exported graph, ready to run. Immutable and thread-safe."""

    def __init__(self, path: Path, native: Exportable, digest: str, *, device: str = "cpu") -> None:
        """Load a graph that was exported from a router.

        Args:
            path: model.onnx.
            native: The router; its inputs are those of the graph.
            digest: The router's digest; the graph must name the same.
            device: See OnnxSession.

        Raises:
            OnnxModelError: The graph is damaged.
            ForeignExportError: It is of another router.
            ProviderUnavailableError: The device is not there.
        """
        self._native = native
        self._reference: Any = None
        try:
            session = OnnxSession(path, device=device)  # type: ignore[arg-type]
        except OnnxModelError as error:
            # ONNX Runtime's CPU provider has no products in bfloat16; ONNX's own evaluator has.
            if "NOT_IMPLEMENTED" not in str(error) and "Could not find an implementation" not in str(error):
                raise
            onnx = require("onnx", "onnx")
            model = onnx.load_model(path)
            metadata = {entry.key: entry.value for entry in model.metadata_props}
            self._run: Run = _reference_run(require("onnx.reference", "onnx").ReferenceEvaluator(model))
            self._ran_on = REFERENCE
        else:
            metadata = session.metadata
            self._run = lambda feeds: np.asarray(session.run(feeds)[WIN_RATE], dtype=np.float64).reshape(-1)
            self._ran_on = session.providers[0]
        self.metadata = check_metadata(metadata, digest, path)

    @property
    def ran_on(self) -> str:
        """A provider of ONNX Runtime, or ONNX's reference evaluator."""
        return self._ran_on

    def win_rates(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return (n,) win rates; NaN where the graph has none."""
        found = np.empty(len(prompts))
        order = list(range(len(prompts)))
        if self._native.inputs == "tokens":  # alike in length together: a batch is as long as its longest prompt
            order.sort(key=lambda index: len(prompts[index]))
        for start in range(0, len(order), BATCH):
            members = order[start : start + BATCH]
            found[members] = self._run(self._native.feeds([prompts[index] for index in members]))
        return found


def verify(
    native: Exportable,
    exported: ExportedRouter,
    prompts: Sequence[str],
    *,
    bound: float,
    model_bytes: int,
    opset: int,
    benchmarks: Sequence[Benchmark] = (),
    notes: Sequence[str] = (),
) -> ExportReport:
    """Compare an exported router with the router itself.

    Args:
        native: The router.
        exported: The router's graph.
        prompts: At least one prompt.
        bound: The largest difference of win rates that is allowed.
        model_bytes: Size of the graph, for the report.
        opset: The graph's ONNX opset, for the report.
        benchmarks: On which APGR is compared.
        notes: What else the report shall say.

    Raises:
        ExportMismatchError: They differ by more, or the graph has no win rate for one prompt in a hundred or more.
        InvalidArgumentError: No prompts.
    """
    if not prompts:
        raise InvalidArgumentError("an export is verified on prompts: give at least one")
    expected = score_in_batches(native.native, prompts, batch=BATCH)
    found = exported.win_rates(prompts)
    undecided = np.isnan(found)
    difference = np.abs(found - expected)
    largest = float(np.max(difference[~undecided], initial=0.0))
    precision = exported.metadata["precision"]
    if largest > bound or undecided.mean() >= 0.01:
        worst = int(np.nanargmax(np.where(undecided, np.inf, difference)))
        raise ExportMismatchError(
            f"the exported {native.router.kind} router ({precision}) differs from the router: on prompt {worst} of "
            f"{len(prompts)} it gives {found[worst]:.6f} instead of {expected[worst]:.6f}, the bound is {bound:g}. "
            "Nothing was written. Choose a wider precision, or allow more with a larger bound."
        )
    thresholds = _thresholds(native)
    apgr = {benchmark.name: _apgr(native, exported, benchmark) for benchmark in benchmarks}
    return ExportReport(
        kind=native.router.kind,
        router_digest=exported.metadata["router_digest"],
        inputs=native.inputs,
        precision=precision,
        bound=bound,
        prompts=len(prompts),
        max_difference=largest,
        undecided=int(undecided.sum()),
        changed_decisions={
            f"{threshold:.6g}": int(((expected >= threshold) != (found >= threshold)).sum()) for threshold in thresholds
        },
        apgr=apgr,
        verified_on=exported.ran_on,
        model_bytes=model_bytes,
        opset=opset,
        version=_core.__version__,
        notes=tuple(notes),
    )


def batches(prompts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the prompts in batches."""
    for start in range(0, len(prompts), BATCH):
        yield prompts[start : start + BATCH]


def _reference_run(evaluator: Any) -> Run:
    return lambda feeds: np.asarray(evaluator.run([WIN_RATE], feeds)[0], dtype=np.float64).reshape(-1)


def _thresholds(native: Exportable) -> list[float]:
    calibration = native.router.calibration
    return [0.5] if calibration is None else [calibration.quantile(share) for share in _SHARES]


def _apgr(native: Exportable, exported: ExportedRouter, benchmark: Benchmark) -> dict[str, float]:
    from routellm_fast.evaluation import sweep  # for those who name a benchmark

    expected = score_in_batches(native.native, benchmark.prompts, batch=BATCH)
    found = exported.win_rates(benchmark.prompts)
    found = np.where(np.isnan(found), expected, found)
    before, after = sweep(expected, benchmark).apgr, sweep(found, benchmark).apgr
    return {"router": before, "exported": after, "difference": after - before}
