"""Finds the threshold for a share, a budget or a quality that a user wants, on prompts like the user's own."""

from __future__ import annotations

from routellm_fast.thresholds.command import Calibrated, calibrate
from routellm_fast.thresholds.drift import Drift, check_drift
from routellm_fast.thresholds.probability_fit import Outcomes, ProbabilityFit, fit_probability
from routellm_fast.thresholds.traffic import Traffic

__all__ = [
    "Calibrated",
    "Drift",
    "Outcomes",
    "ProbabilityFit",
    "Traffic",
    "calibrate",
    "check_drift",
    "fit_probability",
]
