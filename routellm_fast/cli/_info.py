"""`routellm-fast info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from routellm_fast import _core
from routellm_fast.artifact import ROUTER_LAYOUT, read_artifact
from routellm_fast.routers import load_router
from routellm_fast.routers.loading import SHIPPED_ROUTER

_MAX_CHARACTERS: Final = 400


def info(
    router: Path | None = typer.Argument(
        None, help="Router directory; none: the router that ships.", show_default=False
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check a router directory (digests, shapes, finite weights) and say what it holds."""
    directory = router or SHIPPED_ROUTER
    artifact = read_artifact(directory, ROUTER_LAYOUT)
    loaded = load_router(directory)
    tensors = {name: f"{array.dtype} {array.shape}" for name, array in sorted(artifact.tensors.items())}
    calibration = loaded.calibration
    facts: dict[str, Any] = {
        "kind": loaded.kind,
        "strong model": loaded.model_pair.strong,
        "weak model": loaded.model_pair.weak,
        "embedder": artifact.manifest["embedder"]
        and {key: artifact.manifest["embedder"][key] for key in ("name", "dim", "fingerprint", "settings")},
        "tensors": tensors,
        "tensor bytes": sum(array.nbytes for array in artifact.tensors.values()),
        "calibration": calibration and f"{calibration.prompt_count:,} prompts of {calibration.dataset}",
        "thresholds": calibration
        and {
            f"{share:.0%} strong": round(calibration.threshold_for(share), 5) for share in (0.1, 0.25, 0.5, 0.75, 0.9)
        },
        "provenance": loaded.provenance,
        "instruction set": f"{_core.active_isa()} (of {', '.join(_core.supported_isas())})",
    }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    table = Table(title=str(directory), title_justify="left", show_header=False, box=None, pad_edge=False)
    for key, value in facts.items():
        table.add_row(key, _readable(value))
    Console().print(table)


def _readable(value: Any, depth: int = 0) -> str:
    """Outer objects one key a line, inner ones on that line; what is too long for a person is left to --json."""
    if isinstance(value, dict) and depth == 0:
        return "\n".join(f"{key}: {_readable(entry, 1)}" for key, entry in value.items()) or "none"
    if isinstance(value, dict):
        text = ", ".join(f"{key} {_readable(entry, depth + 1)}" for key, entry in value.items())
        text = f"({text})" if depth > 1 else text
    elif isinstance(value, list):
        text = ", ".join(_readable(entry, depth + 1) for entry in value)
    elif value is None:
        text = "none"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    else:
        text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= _MAX_CHARACTERS else "(long: --json shows it)"
