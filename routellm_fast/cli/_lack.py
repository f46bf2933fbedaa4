"""Says in words what a process lacks, where an exception comes of too little memory, threads, files or stack."""

from __future__ import annotations

import errno
from typing import Final

# How libraries say that memory cannot be had: the dynamic loader (mapping a library), torch, ONNX Runtime and C++.
_NO_MEMORY: Final = (
    "failed to map segment", "cannot map zero-fill", "cannot allocate memory", "can't allocate memory",
    "failed to allocate memory", "bad_alloc", "out of memory",
)  # fmt: skip
_MORE_MEMORY: Final = (
    "give the process more (a limit may be set by ulimit -v, a container or a job scheduler), or give it less to read "
    "at once: smaller files, fewer prompts"
)


def lack_of(error: Exception) -> str | None:
    """Return what the process lacks and what to do; None where the exception says nothing of the kind."""
    text = str(error).lower()
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({error})' if text else ''}: {_MORE_MEMORY}"
    if isinstance(error, RecursionError):
        return "what was read is nested too deeply to be used: no JSON that is nested hundreds of levels deep is taken"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: let the process open more (ulimit -n 1024)"
    if "can't start new thread" in text:
        return "no further thread can be started: let the process start more (ulimit -u), or give it more memory"
    if "too many open files" in text:
        return f"too many files are open ({error}): let the process open more (ulimit -n 1024)"
    if any(words in text for words in _NO_MEMORY):
        return f"not enough memory ({error}): {_MORE_MEMORY}"
    return None
