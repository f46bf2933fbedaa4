"""The results of a run as a table of the documents. Pure: every count comes from the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.harness.tables import count, table

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = _REPOSITORY / "benchmarks" / "results" / "gateway_soak.json"
DOCUMENT: Final = _REPOSITORY / "docs" / "gateway.md"
MARKERS: Final = ("<!-- soak:begin -->", "<!-- soak:end -->")


def text_of(results: dict[str, Any]) -> str:
    """Return what stands between the markers."""
    found = results["run"]
    happened = "; ".join(f"{what}: {count(times)}" for what, times in sorted(found["happened"].items()))
    verdict = (
        "Every request was answered, refused or visibly broken off, and `/metrics` counts what the clients counted"
        if not found["breaches"]
        else f"**It did not hold:** `{found['breaches'][0]}`"
    )
    rows = [[what, count(times)] for what, times in sorted(found["sent"].items(), key=lambda item: -item[1])]
    outcomes = [[what, count(times)] for what, times in sorted(found["outcomes"].items(), key=lambda item: -item[1])]
    counters = found["counters"]
    rows += [["**all**", f"**{count(found['requests'])}**"]]
    outcomes += [["counted by the gateway", f"{count(counters['began'])} begun, {count(counters['ended'])} ended"]]
    size = f"{count(found['requests'])} requests of {found['clients']} clients to `--workers {found['workers']}`"
    parts = (
        f"{verdict}: {size}, in {count(found['seconds'] / 60)} minutes. {happened}.",
        table(("requests", "number"), rows),
        table(("what came of them", "number"), outcomes),
        f"`{results['command']}`, {results['machine']['date']}, commit {results['machine']['commit']}.",
    )
    return "\n\n".join(parts) + "\n"
