"""A limit of the memory that graphs take at their runs on the CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_CGROUP: Final = Path("/sys/fs/cgroup")
_MOST_BYTES: Final = 32 << 30
# Sessions take tensors from an arena of the process, which has a limit, instead of one of their own, which has none;
# weights are not taken from it, so that they are freed with their session.
_SETTINGS: Final = {"session.use_env_allocators": "1", "session.use_device_allocator_for_initializers": "1"}
_lock = threading.Lock()
_limited: Any = None  # the module onnxruntime whose arena has the limit


def limit_memory(runtime: Any) -> Mapping[str, str]:
    """Limit the process's tensors, once; return the settings of sessions that shall keep to it.

    Where the program has given ONNX Runtime an arena of its own, sessions use that one.
    """
    global _limited  # noqa: PLW0603 - the arena is the process's, too
    with _lock:
        if _limited is not runtime:
            where = runtime.OrtMemoryInfo(
                "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
            )
            limit = min(_MOST_BYTES, available_bytes() // 2)
            runtime.create_and_register_allocator(where, runtime.OrtArenaCfg({"max_mem": limit}))
            _limited = runtime
    return _SETTINGS


def available_bytes(cgroup: Path = _CGROUP) -> int:
    """Return how many bytes of memory the process may use: the machine's, or fewer by its control group.

    Args:
        cgroup: Where the control group's files are, for tests.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            granted = int((cgroup / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # "max": no limit
            continue
        return min(machine, granted)
    return machine
