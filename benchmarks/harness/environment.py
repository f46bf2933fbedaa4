"""One thread, and a BLAS that chooses its own kernel: the environment that every figure is measured in.

Imports nothing but the standard library, because OpenBLAS and rayon read these variables when they are loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

ONE_THREAD: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# Both force OpenBLAS away from what it would choose for this CPU, which slows numpy, our commonest peer.
UNSET: Final = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def pinned(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of an environment, as benchmarks need it."""
    return {key: value for key, value in environ.items() if key not in UNSET} | ONE_THREAD


def enter() -> None:
    """Restart this interpreter in the pinned environment, unless it runs there already."""
    wanted = pinned(os.environ)
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)


def apply() -> bool:
    """Pin this process's environment. Return False where numpy was loaded before, and so saw the old one."""
    is_in_time = "numpy" not in sys.modules or pinned(os.environ) == dict(os.environ)
    for key in UNSET:
        os.environ.pop(key, None)
    os.environ.update(ONE_THREAD)
    return is_in_time
