"""What a router carries of its calibration: table, operating points, prices and a probability map.

Routing needs `table` alone; everything else is imported when it is first asked for. `routellm_fast.thresholds` finds
what stands here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from routellm_fast.calibration.table import Calibration

if TYPE_CHECKING:
    from routellm_fast.calibration.budget import ModelPrice, PairPrices
    from routellm_fast.calibration.interval import Interval
    from routellm_fast.calibration.operating_points import OperatingPoint, Target
    from routellm_fast.calibration.probability import IsotonicMap, PlattMap, ProbabilityFit, fit_probability

_ON_FIRST_USE = {
    "Interval": "interval",
    "IsotonicMap": "probability",
    "ModelPrice": "budget",
    "OperatingPoint": "operating_points",
    "PairPrices": "budget",
    "PlattMap": "probability",
    "ProbabilityFit": "probability",
    "Target": "operating_points",
    "fit_probability": "probability",
}

__all__ = [
    "Calibration",
    "Interval",
    "IsotonicMap",
    "ModelPrice",
    "OperatingPoint",
    "PairPrices",
    "PlattMap",
    "ProbabilityFit",
    "Target",
    "fit_probability",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    globals()[name] = value
    return value
