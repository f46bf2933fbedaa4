"""What the backends in one Triton server are called, in measurements as in reports."""

from __future__ import annotations

from typing import Final

TRITON_OURS: Final = "our C++ backend"
TRITON_TRIVIAL: Final = "trivial C++ backend"
TRITON_PYTHON: Final = "Python backend"
