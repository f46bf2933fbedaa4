"""A calibration with every optional key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routellm_fast import Calibration
from routellm_fast.calibration import IsotonicMap, OperatingPoint, Target
from routellm_fast.interval import Interval
from routellm_fast.prices import ModelPrice, PairPrices


def full_calibration() -> Calibration:
    points = [
        OperatingPoint(Target("strong_share", 0), Interval(1.0, 1.0, 1.0), Interval(0.0, 0.0, 0.0)),
        OperatingPoint(
            Target("pgr", 0.5),
            Interval(0.45000000123, 0.4, 0.5),
            Interval(0.25, 0.2, 0.3),
            cost_usd_per_1k=Interval(3.5, 3.0, 4.0),
            quality=Interval(7.5, 7.0, 8.0),
            pgr=Interval(0.52, -0.1, 1.1),
        ),
    ]
    return replace(
        Calibration.from_win_rates(np.linspace(0, 1, 50, dtype=np.float32), dataset="line", steps=10),
        created="2026-11-24",
        prompt_digest="sha256:0",
        operating_points={point.target.name: point for point in points},
        prices=PairPrices(ModelPrice(10, 30), ModelPrice(request_usd=0.001), output_tokens=264),
        win_rate_quantiles=(0.0, 0.25, 0.25, 1.0),
        probability=IsotonicMap((0.25, 0.5, 0.75), (0.1, 0.4, 0.9)),
    )
