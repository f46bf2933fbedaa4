"""What a router carries of its calibration: table, operating points and a probability map.

Routing needs `table` alone; everything else is imported when it is first asked for. `routellm_fast.thresholds` finds
what stands here; prices and intervals are those of `routellm_fast.prices` and `routellm_fast.interval`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from routellm_fast.calibration.table import Calibration

if TYPE_CHECKING:
    from routellm_fast.calibration.operating_points import OperatingPoint, Target
    from routellm_fast.calibration.probability import IsotonicMap, PlattMap

_ON_FIRST_USE = {
    "IsotonicMap": "probability",
    "OperatingPoint": "operating_points",
    "PlattMap": "probability",
    "Target": "operating_points",
}

__all__ = ["Calibration", "IsotonicMap", "OperatingPoint", "PlattMap", "Target"]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    globals()[name] = value
    return value
