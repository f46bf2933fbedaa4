"""The results of all attacks as a page of the documents. Pure: every count comes from the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.harness import machine
from benchmarks.harness.tables import count, table

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = _REPOSITORY / "benchmarks" / "results" / "attacks.json"
_ABOUT: Final = (
    "Files, servers and processes fail in the middle of things, and some people want them to. `make attack` tries "
    "what follows, and ends with an error where something does not hold. The tests of the project run each attack "
    "a few times. [SECURITY.md](../SECURITY.md) says what is promised."
)
PAGE: Final = _REPOSITORY / "docs" / "attacks.md"


def page_of(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    rows, about, minutes = results["attacks"], results["machine"], count(results["seconds"] / 60)
    parts = [
        "# What was attacked, and what held",
        _ABOUT,
        f"Tried on {about['date']} by `{results['command']}`, in {minutes} minutes, on: {machine.line(about)}.",
        table(
            ("attack", "tried", "seconds", "held"),
            (
                (row["name"], f"{count(row['count'])} {row['unit']}", count(row["seconds"]), _verdict(row))
                for row in rows
            ),
        ),
    ]
    for row in rows:
        parts.append(f"## {row['name'][0].upper()}{row['name'][1:]}")
        parts.append(f"Each time: {row['tried']} What must hold: {row['held']}")
        if row["happened"]:
            happened = (f"{what}: {count(times)}" for what, times in sorted(row["happened"].items()))
            parts.append(f"What happened: {'; '.join(happened)}.")
        if row["breach"]:
            parts.append(f"**It did not hold:** `{row['breach']}`")
    return "\n\n".join(parts) + "\n"


def _verdict(row: dict[str, Any]) -> str:
    return "**no**" if row["breach"] else "yes"
