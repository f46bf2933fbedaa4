"""Thresholds that were chosen to reach a target, and what each of them does reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from routellm_fast import strict
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.interval import Interval

TargetKind = Literal["strong_share", "cost_usd_per_1k", "cost_share", "pgr", "quality"]
# Judged on labelled rows; the others on the traffic.
QUALITY_KINDS: Final = frozenset({"pgr", "quality"})
COST_KINDS: Final = frozenset({"cost_usd_per_1k", "cost_share"})
_UNIT_KINDS: Final = frozenset({"strong_share", "cost_share"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a threshold should reach.

    Attributes:
        kind: "strong_share": this share of requests at the strong model. "cost_usd_per_1k": the largest strong share
            at which a thousand requests cost at most this, in US dollars. "cost_share": the same, as a share of what
            the strong model alone would cost. "pgr": the least strong share that recovers this part of the quality gap
            between the models. "quality": the least strong share with this mean score.
        value: The share, cost, part of the gap or mean score to reach, in the unit that `kind` says.
    """

    kind: TargetKind
    value: float

    def __post_init__(self) -> None:
        """Refuse what no threshold could mean."""
        if self.kind not in get_args(TargetKind):
            raise InvalidArgumentError(f"a target is one of {', '.join(get_args(TargetKind))}, found {self.kind!r}")
        low = -math.inf if self.kind == "quality" else 0.0
        value = strict.number(self.value, self.kind, low, 1.0 if self.kind in _UNIT_KINDS else math.inf)
        object.__setattr__(self, "value", value)  # an int is written as the float that it will be read as

    @property
    def name(self) -> str:
        """Name of the target, e.g. "strong_share=0.3"."""
        return f"{self.kind}={self.value:.12g}"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and what it yields.

    Intervals are over resamples of the prompts. The interval of `threshold` says how far another log of the same
    traffic would move the threshold; all other intervals keep the threshold fixed, as a deployed router does.

    Attributes:
        target: What the threshold should reach.
        threshold: Win rate from which the strong model is chosen.
        strong_share: Share of requests that the strong model then gets. It can differ from the share asked for where
            many prompts have one and the same win rate.
        cost_usd_per_1k: US dollars that a thousand requests cost; None without prices.
        quality: Mean score of the answers on the labelled rows; None without labels.
        pgr: Part of the quality gap that is recovered on the labelled rows; None without labels, or where the strong
            model is not better on them.
    """

    target: Target
    threshold: Interval
    strong_share: Interval
    cost_usd_per_1k: Interval | None = None
    quality: Interval | None = None
    pgr: Interval | None = None

    def to_json(self) -> dict[str, object]:
        """Return the form that router.json holds."""
        optional = {name: getattr(self, name) for name in ("cost_usd_per_1k", "quality", "pgr")}
        return {
            "kind": self.target.kind,
            "value": self.target.value,
            "threshold": self.threshold.to_list(),
            "strong_share": self.strong_share.to_list(),
            **{name: interval.to_list() for name, interval in optional.items() if interval is not None},
        }

    @classmethod
    def from_json(cls, value: Any, what: str) -> OperatingPoint:
        """Read what to_json wrote. Raises InvalidArgumentError."""
        optional = ("cost_usd_per_1k", "quality", "pgr")
        found = strict.fields(value, what, ("kind", "value", "threshold", "strong_share"), optional)
        return cls(
            Target(found["kind"], strict.number(found["value"], f"{what}.value")),
            Interval.from_list(found["threshold"], f"{what}.threshold", unit=True),
            Interval.from_list(found["strong_share"], f"{what}.strong_share", unit=True),
            **{name: Interval.from_list(found[name], f"{what}.{name}") for name in optional if name in found},
        )


def points_from_json(value: Any) -> Mapping[str, OperatingPoint]:
    """Read operating points by name. Raises InvalidArgumentError."""
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"calibration.operating_points must be an object, found {type(value).__name__}")
    points = {name: OperatingPoint.from_json(entry, f"operating_points[{name!r}]") for name, entry in value.items()}
    for name, point in points.items():
        if name != point.target.name:
            raise InvalidArgumentError(
                f"operating_points[{name!r}] must be named {point.target.name!r} after its kind and value"
            )
    return points
