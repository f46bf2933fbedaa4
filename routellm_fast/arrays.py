"""The arrays that pass between rooms."""

from __future__ import annotations

from typing import Any

import numpy as np

# What numpy.typing.NDArray[np.float32] stands for; importing that module takes longer than all of ours.
FloatArray = np.ndarray[Any, np.dtype[np.float32]]
