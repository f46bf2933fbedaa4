"""The results of an evaluation: plain records that a report renders and a JSON file keeps."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import DataError
from routellm_fast.interval import Interval
from routellm_fast.json_file import read_json

# Raised by one when a reader of the older layout would misread a file.
FORMAT_VERSION: Final = 1
Role = Literal["router", "baseline", "bound"]
# What routers are held against goes by these names, which no router may have.
LENGTH: Final = "prompt length"
RANDOM: Final = "random"
ORACLE: Final = "oracle"
BASELINES: Final = frozenset({LENGTH, RANDOM, ORACLE})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CurvePoints:
    """Quality and cost against the strong share, from no prompt at the strong model to all.

    Attributes:
        strong_share: Share of prompts at the strong model, in [0, 1], rising.
        quality: Mean quality of the answers at each share.
        threshold: Win rate from which the strong model is chosen, at each share.
        cost_usd_per_1k: US dollars a thousand prompts; None where a model has no price.
    """

    strong_share: tuple[float, ...]
    quality: tuple[float, ...]
    threshold: tuple[float, ...]
    cost_usd_per_1k: tuple[float, ...] | None = None

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class MetricSet:
    """The numbers of one router on one benchmark; see `routellm_fast.evaluation.metrics` for each definition.

    Attributes:
        apgr_routellm: Area under PGR as RouteLLM's code takes it: trapezoids between ten quantiles of win rates.
        apgr_paper: Mean of PGR at ten strong shares, as RouteLLM's paper defines APGR.
        cpt20: Strong share, in [0, 1], for 20 % PGR.
        cpt50: Strong share for 50 % PGR.
        cpt80: Strong share for 80 % PGR.
        saving_cpt50: How many times fewer strong calls than random routing needs for 50 % PGR: table 6 of the paper,
            which counts the weak model as free.
        saving_cpt80: The same for 80 % PGR.
        dollar_saving_cpt50: The saving for 50 % PGR in dollars, the weak model's cost counted; None where a model has
            no price.
        dollar_saving_cpt80: The same for 80 % PGR.
    """

    apgr_routellm: Interval
    apgr_paper: Interval
    cpt20: Interval
    cpt50: Interval
    cpt80: Interval
    saving_cpt50: Interval
    saving_cpt80: Interval
    dollar_saving_cpt50: Interval | None = None
    dollar_saving_cpt80: Interval | None = None


@dataclass(frozen=True, slots=True)
class DomainResult:
    """A router within one domain of a benchmark.

    Attributes:
        prompts: Number of prompts.
        gap: Mean quality of the strong model over that of the weak one.
        apgr: APGR as RouteLLM's code takes it. It divides by the gap: None where that may not be above zero.
    """

    prompts: int
    gap: float
    apgr: Interval | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """How win rates are spread.

    Attributes:
        edges: n + 1 edges, rising.
        counts: n counts of prompts.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class RouterResult:
    """One row of a results table.

    Attributes:
        name: Name of the router, as given.
        role: "router" for what is evaluated, "baseline" for random and prompt length, "bound" for the oracle.
        metrics: The router's metrics on all prompts.
        curve: The router's quality and cost against its strong share.
        by_domain: The router's results within each domain; empty where the benchmark has one domain only.
        histogram: How the router's win rates are spread; None for baselines and bounds.
    """

    name: str
    role: Role
    metrics: MetricSet
    curve: CurvePoints
    by_domain: Mapping[str, DomainResult] = field(default_factory=dict)
    histogram: Histogram | None = None

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much one router's APGR (RouteLLM's) exceeds another's, drawn over the same prompts for both.

    Attributes:
        router: Name of the first.
        other: Name of the second.
        apgr: APGR of router less that of other.
    """

    router: str
    other: str
    apgr: Interval


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """All routers on one benchmark.

    Attributes:
        name: Name of the benchmark.
        prompts: Number of prompts that were routed.
        dropped: Number of prompts left out because RouteLLM's training data held them.
        strong_model: Name of the strong model.
        weak_model: Name of the weak model.
        strong_quality: Mean quality of the strong model alone.
        weak_quality: Mean quality of the weak model alone.
        max_quality: What a perfect answer scores.
        routers: Routers in the order given, then baselines, then bounds.
        differences: Differences in APGR of each router to the first one and to prompt length.
        overlapping: Number of prompts left out because the given training files hold them.
        unscored: Number of prompts left out because one of the models was not run on them.
        notes: What else a reader of the numbers must know, e.g. that intervals are wide; one sentence each.
    """

    name: str
    prompts: int
    dropped: int
    strong_model: str
    weak_model: str
    strong_quality: float
    weak_quality: float
    max_quality: float
    routers: tuple[RouterResult, ...]
    differences: tuple[Difference, ...] = ()
    overlapping: int = 0
    unscored: int = 0
    notes: tuple[str, ...] = ()

    __repr__ = brief_repr

    @property
    def best_single(self) -> tuple[str, float]:
        """Name and quality of the model that is best alone."""
        strong = self.strong_quality >= self.weak_quality
        return (self.strong_model, self.strong_quality) if strong else (self.weak_model, self.weak_quality)

    @property
    def left_out(self) -> tuple[str, ...]:
        """How many prompts were left out, and why; one phrase for each reason that occurred."""
        reasons = (
            (self.dropped, "left out because RouteLLM's training data held them"),
            (self.overlapping, "left out because the training files given hold them"),
            (self.unscored, "left out because one of the models was not run on them"),
        )
        return tuple(f"{count:,} {reason}" for count, reason in reasons if count)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that one call found.

    Attributes:
        created: Date, ISO 8601.
        routers: For each router, by name: its "directory", "kind" and "digest"; empty text where unknown.
        benchmarks: Results of the benchmarks, in the order given.
        settings: What the numbers depend on, JSON-able: seed, resamples, prices and the like.
    """

    created: str
    routers: Mapping[str, Mapping[str, str]]
    benchmarks: tuple[BenchmarkResult, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief_repr

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object, which from_json reads."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Evaluation:
        """Read what to_json wrote.

        Raises:
            DataError: The object is of another layout, or of a version that this one does not know.
        """
        version = record.get("format_version") if isinstance(record, Mapping) else None
        if version != FORMAT_VERSION:
            raise DataError(f"expected an evaluation of format {FORMAT_VERSION}, found {version!r}: evaluate again")
        return _restore(cls, {key: value for key, value in record.items() if key != "format_version"}, "evaluation")

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Read an evaluation.json. Raises DataError where that is none."""
        record = read_json(path)
        try:
            return cls.from_json(record)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _restore(kind: type[_T], value: Any, where: str) -> _T:
    """Build a record of an object, checking names and types as the records declare them."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where} must be an object, found {type(value).__name__}")
    hints = typing.get_type_hints(kind)
    fields = {entry.name: entry for entry in dataclasses.fields(typing.cast("Any", kind))}
    required = {
        name
        for name, entry in fields.items()
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    }
    unknown, missing = sorted(set(value) - set(fields)), sorted(required - set(value))
    if unknown or missing:
        raise DataError(f"{where}: unknown keys {unknown}, missing keys {missing}")
    return kind(**{name: _value(hints[name], entry, f"{where}.{name}") for name, entry in value.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _restore(typing.cast("type[Any]", hint), value, where)
    if origin in (typing.Union, types.UnionType):  # only `X | None` occurs
        return None if value is None else _value(arguments[0], value, where)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _value(arguments[1], entry, f"{where}[{key!r}]") for key, entry in value.items()}
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if (hint is int and type(value) is int) or (hint is str and isinstance(value, str)):
        return value
    raise DataError(f"{where}: found {value!r}")
