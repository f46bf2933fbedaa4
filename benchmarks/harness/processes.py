"""What a process and all that it has started take: memory, and seconds of processors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its children; what they share counts for each of them once."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total / 1e6


def cpu_s(pid: int) -> float:
    """Return the seconds that a process and its children have run so far, to a hundredth."""
    total = 0
    for member in family(pid):
        # The name in parentheses may hold blanks; user and system time are the 12th and 13th fields after it.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK_S
