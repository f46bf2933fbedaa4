"""How far an exported graph is from its router: export-report.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

REPORT_FILE: Final = "export-report.json"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An exported router beside the router itself.

    Attributes:
        kind: The router's kind, e.g. "mf".
        router_digest: The router's digest; see router_digest.
        inputs: "tokens" or "embeddings".
        precision: Precision of the graph's matrix products, e.g. "float32".
        bound: The largest difference of win rates that was allowed.
        prompts: On how many prompts graph and router were compared.
        max_difference: The largest difference of win rates that was found.
        undecided: On how many prompts the graph gave NaN: it has no win rate for them.
        changed_decisions: By threshold, e.g. "0.573", how many prompts would go to the other model.
        apgr: By benchmark, the APGR of the router, of the graph, and the difference.
        verified_on: What ran the graph: a provider of ONNX Runtime, or "onnx reference evaluator".
        model_bytes: Size of the graph with its weights, in bytes.
        opset: Version of the ONNX operator set.
        version: Version of this package.
        notes: What else a reader should know.
    """

    kind: str
    router_digest: str
    inputs: str
    precision: str
    bound: float
    prompts: int
    max_difference: float
    undecided: int
    changed_decisions: Mapping[str, int]
    apgr: Mapping[str, Mapping[str, float]]
    verified_on: str
    model_bytes: int
    opset: int
    version: str
    notes: tuple[str, ...] = field(default=())

    def write(self, folder: Path) -> None:
        """Write export-report.json into a folder."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True)
        (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return asdict(self)
