"""From what a user wants to spend, or to reach, to the threshold that yields it, on prompts like the user's own.

Routing needs `table` alone; everything else is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from routellm_fast.calibration.table import Calibration

if TYPE_CHECKING:
    from routellm_fast.calibration.budget import ModelPrice, PairPrices
    from routellm_fast.calibration.command import Calibrated, calibrate
    from routellm_fast.calibration.drift import Drift, check_drift
    from routellm_fast.calibration.interval import Interval
    from routellm_fast.calibration.operating_points import OperatingPoint, Target
    from routellm_fast.calibration.probability import IsotonicMap, PlattMap, ProbabilityFit, fit_probability
    from routellm_fast.calibration.traffic import Traffic

_ON_FIRST_USE = {
    "Calibrated": "command",
    "Drift": "drift",
    "Interval": "interval",
    "IsotonicMap": "probability",
    "ModelPrice": "budget",
    "OperatingPoint": "operating_points",
    "PlattMap": "probability",
    "PairPrices": "budget",
    "ProbabilityFit": "probability",
    "Target": "operating_points",
    "Traffic": "traffic",
    "calibrate": "command",
    "check_drift": "drift",
    "fit_probability": "probability",
}

__all__ = [
    "Calibrated",
    "Calibration",
    "Drift",
    "Interval",
    "IsotonicMap",
    "ModelPrice",
    "OperatingPoint",
    "PairPrices",
    "PlattMap",
    "ProbabilityFit",
    "Target",
    "Traffic",
    "calibrate",
    "check_drift",
    "fit_probability",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    globals()[name] = value
    return value
