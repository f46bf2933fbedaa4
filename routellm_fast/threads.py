"""How many threads this process may keep busy."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")


def available_threads(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the smaller of the process's CPU affinity and the CPU quota of its control group (Linux containers). Counting
    the machine's cores instead would start 64 threads in a container that may use 2 cores of 64, and they would wait
    for each other.

    Args:
        cgroup: Where the control group's files are, for tests.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Return how many cores the control group (version 2 or 1) grants; None where it sets no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroup / "cpu" / name).read_text(encoding="ascii").strip()
                for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            )
        except (OSError, ValueError):
            return None
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return granted if granted > 0 else None
