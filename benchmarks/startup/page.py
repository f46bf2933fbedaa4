"""The section of a report on import and loading, and the table of cold starts."""

from __future__ import annotations

from benchmarks.harness.reports import Report
from benchmarks.harness.tables import number, table


def startup_parts(report: Report) -> list[str]:
    """Return the section on import and loading."""
    found = report["import"]
    return [
        "## Import and loading",
        (
            f"Medians of {found['interpreters']} fresh interpreters each; files in the page cache, bytecode compiled. "
            f"Must not be loaded: {', '.join(found['heavy_modules_looked_for'])}. Loaded of these: "
            f"{', '.join(found['heavy_modules_loaded']) or 'none'}."
        ),
        _import_table(report),
    ]


def _import_table(report: Report) -> str:
    rows = [
        [f"{program}: {stage}", *(number(found[key]) for key in ("ms", "resident_mb", "peak_mb"))]
        for program, stages in report["import"]["programs"].items()
        for stage, found in stages.items()
        # Every program begins with the bare interpreter; once is enough.
        if stage != "interpreter" or program == "nothing"
    ]
    return table(["program: stage", "ms", "resident MB", "peak MB"], rows)


def cold_start_table(report: Report) -> str:
    """Return from the start of a process to its first decision, and what it is made of."""
    rows = [
        (
            name,
            number(found["wall_ms"]),
            *(number(found["stages_ms"][stage]) for stage in ("import", "load", "first route")),
            number(found["resident_mb"]),
        )
        for name, found in report["cold_start"].items()
    ]
    return (
        "Cold start: milliseconds from the start of a process to its end, after one decision, medians of fresh "
        "interpreters; the interpreter's own start and end are in the first column only.\n\n"
        + table(("router", "whole process", "import", "load", "first decision", "resident, MB"), rows)
    )
