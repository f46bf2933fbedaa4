"""Reports as files: JSON, the Markdown page made of it, and tables inside the project's documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

# Scripts that older reports name as their command, and what measures the same today. The JSON stays as it was measured.
_COMMANDS: Final = {
    "python benchmarks/report.py": "python -m benchmarks report",
    "python benchmarks/measure_triton.py": "python -m benchmarks triton",
    "python benchmarks/transformers_report.py": "python -m benchmarks transformers",
}

Report = dict[str, Any]
Markers = tuple[str, str]


def dump(report: Report) -> str:
    """Return JSON that people can read: arrays of numbers stay on one line."""
    text = json.dumps(report, indent=1, ensure_ascii=False, sort_keys=True)
    return re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda match: "[" + re.sub(r"\s+", "", match[1]) + "]", text) + "\n"


def read(path: Path) -> Report:
    """Read a report's JSON. Raises OSError, and ValueError where it is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} holds no JSON ({error}); expected a report that this command wrote") from error
    if not isinstance(found, dict) or "machine" not in found:
        raise ValueError(f"{path} is no report: it has no entry 'machine'; expected a file that this command wrote")
    return found


def command_of(report: Report) -> str:
    """Return the command that makes such a report now, with the options that this one was made with."""
    recorded: str = report["command"]
    for before, now in _COMMANDS.items():
        if recorded == before or recorded.startswith(f"{before} "):
            return now + recorded[len(before) :]
    return recorded


def between(document: Path, markers: Markers) -> str:
    """Return what stands between two markers of a Markdown file. Raises ValueError where they are missing."""
    return _parts(document, markers)[1]


def splice_between(document: Path, markers: Markers, text: str) -> None:
    """Replace what stands between two markers of a Markdown file. Raises ValueError where they are missing."""
    before, _, after = _parts(document, markers)
    document.write_text(f"{before}{markers[0]}\n{text}{markers[1]}{after}", encoding="utf-8")


def _parts(document: Path, markers: Markers) -> tuple[str, str, str]:
    before, begin, rest = document.read_text(encoding="utf-8").partition(markers[0])
    inside, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"{document} has no {markers[0]} … {markers[1]}: add both lines where the tables belong")
    return before, inside, after
