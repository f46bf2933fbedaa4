"""The arrays that pass between rooms."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

# What numpy.typing.NDArray[np.float32] stands for; importing that module takes longer than all of ours.
FloatArray = np.ndarray[Any, np.dtype[np.float32]]


def is_masked(values: Any) -> bool:
    """Whether values are numpy's masked array: what reads it as an array would take masked values for numbers."""
    # Whoever has made one has imported the module.
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(values, masked.MaskedArray)
