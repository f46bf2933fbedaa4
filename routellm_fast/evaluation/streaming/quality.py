"""What a prompt log of any length came to, in constant memory.

What is kept is a QualitySketch of each router, domain and baseline, and these add up: logs may be read in pieces, on
one machine or many, and the result is the same to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.datasets import scale_of
from routellm_fast.evaluation.metric_set import listed_costs
from routellm_fast.evaluation.results import LENGTH, ORACLE, BenchmarkResult, DomainResult
from routellm_fast.evaluation.streaming.chunks import NOT_RUN, LogChunk, LogColumns, checked_win_rates
from routellm_fast.evaluation.streaming.resampling import random_spread, sketch_draws
from routellm_fast.evaluation.streaming.sketch import DEFAULT_BITS, MAX_QUALITY, QualitySketch
from routellm_fast.evaluation.summary import Measured, check_gap, domain_result, domain_seed, notes_on, result_rows
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.prices import PriceList
from routellm_fast.scoring import OnStep
from routellm_fast.texts import word_counts

MAX_DOMAINS: Final = 1000
WORD_LIMIT: Final = 1 << DEFAULT_BITS
# Domains are many and small: 2^14 bins each keep a thousand of them within a gigabyte, at worst.
_DOMAIN_BITS: Final = 14
_DOMAIN_CELLS: Final = 256
# Gains lie in ±2048; this tells 0.001 apart.
_GAIN_BITS: Final = 22
_MAX_EXAMPLES: Final = 5


@dataclass(slots=True)
class StreamedQuality:
    """What a log, or a piece of one, came to. Two of the same routers and columns add up.

    Attributes:
        columns: Names of the log's columns.
        routers: One sketch for each router, by name.
        length: Sketch of routing by the number of words: its "win rate" is words / 2^20, exactly.
        oracle: Sketch of routing by what the strong model gains, to within 0.0005.
        domains: One coarser sketch for each router and domain.
        bad_rows: How many rows were left out, by reason.
        examples: What was wrong with a few of these rows, in alphabetical order.
        highest_quality: The highest quality of any answer.
    """

    columns: LogColumns
    routers: dict[str, QualitySketch]
    length: QualitySketch = field(default_factory=QualitySketch)
    oracle: QualitySketch = field(default_factory=lambda: QualitySketch(_GAIN_BITS))
    domains: dict[str, dict[str, QualitySketch]] = field(default_factory=dict)
    bad_rows: Counter[str] = field(default_factory=Counter)
    examples: tuple[str, ...] = ()
    highest_quality: float = 0.0

    @classmethod
    def of(cls, routers: Iterable[str], columns: LogColumns) -> StreamedQuality:
        """Start empty."""
        names = list(routers)
        return cls(columns, {name: QualitySketch() for name in names}, domains={name: {} for name in names})

    @property
    def rows(self) -> int:
        """How many rows were taken in."""
        return self.length.rows

    @property
    def unscored(self) -> int:
        """How many rows were left out because one of the models was not run on them."""
        return self.bad_rows[NOT_RUN]

    @property
    def digest(self) -> str:
        """SHA-256 over all sketches, one line each: equal for equal logs, however they were read."""
        sketches = {"length": self.length, "oracle": self.oracle}
        sketches |= {f"router {name}": sketch for name, sketch in self.routers.items()}
        for name, domains in self.domains.items():
            sketches |= {f"router {name}, domain {domain}": sketch for domain, sketch in domains.items()}
        return "\n".join(f"{sketches[name].digest} {name}" for name in sorted(sketches))

    def merge(self, other: StreamedQuality) -> None:
        """Take in what another has. Raises InvalidArgumentError where its routers or columns are others."""
        if other.columns != self.columns or set(other.routers) != set(self.routers):
            raise InvalidArgumentError(
                f"results of {sorted(other.routers)} on {other.columns} do not add to those of {sorted(self.routers)} "
                f"on {self.columns}"
            )
        for name, sketch in other.routers.items():
            self.routers[name].merge(sketch)
            for domain, part in other.domains[name].items():
                self._domain(name, domain).merge(part)
        self.length.merge(other.length)
        self.oracle.merge(other.oracle)
        self.bad_rows.update(other.bad_rows)
        self.examples = tuple(sorted({*self.examples, *other.examples})[:_MAX_EXAMPLES])
        self.highest_quality = max(self.highest_quality, other.highest_quality)

    def add(self, chunk: LogChunk, routers: Mapping[str, Scorer]) -> None:
        """Score a chunk and take it in.

        Raises:
            InvalidArgumentError: A router gave something else than one win rate in [0, 1] a prompt.
            DataError: There are more than 1,000 domains.
        """
        if not chunk.prompts:
            return
        strong, weak = np.array(chunk.qualities, dtype=np.float64).T
        places = _places(chunk.domains)
        for name, router in routers.items():
            win_rates = checked_win_rates(name, router, chunk.prompts)
            self.routers[name].add(win_rates, strong, weak)
            for domain, rows in places.items():
                self._domain(name, domain).add(win_rates[rows], strong[rows], weak[rows])
        words = word_counts(chunk.prompts)
        self.length.add(np.minimum(words, WORD_LIMIT) / WORD_LIMIT, strong, weak)
        self.oracle.add((strong - weak) / (4.0 * MAX_QUALITY) + 0.5, strong, weak)
        self.highest_quality = max(self.highest_quality, float(strong.max()), float(weak.max()))

    def leave_out(self, reason: str, example: str | None) -> None:
        """Count a row that is left out, and keep the example if it is one of the first."""
        self.bad_rows[reason] += 1
        if example is None:
            return
        if len(self.examples) < _MAX_EXAMPLES or example < self.examples[-1]:
            self.examples = tuple(sorted({*self.examples, example})[:_MAX_EXAMPLES])

    def result(
        self,
        name: str,
        *,
        prices: PriceList | None = None,
        max_quality: float | None = None,
        resamples: int = 1000,
        seed: int = 0,
        on_progress: OnStep | None = None,
    ) -> BenchmarkResult:
        """Return what a report shows of the log.

        Differences of routers are left out: pairing them needs all prompts at once.

        Args:
            name: Name of the log.
            prices: PriceList of the models; None takes the paper's.
            max_quality: What a perfect answer scores; None takes datasets.scale_of of the highest quality found.
            resamples: Number of bootstrap resamples behind each 95 % interval; see resampling.resampled_cells.
            seed: Seed of the resamples.
            on_progress: Called with what is done, how many steps of it, and of how many.

        Raises:
            DataError: No row was taken in, or the strong model is not better, so that APGR is undefined.
        """
        pair = ModelPair(self.columns.strong, self.columns.weak)
        strong, weak = self.length.strong_quality, self.length.weak_quality
        check_gap(name, pair, strong, weak)
        tell = on_progress or (lambda *_: None)
        measured = {}
        for index, (router, sketch) in enumerate(self.routers.items()):
            tell(f"intervals of {router}", index, len(self.routers))
            domains = self._domain_results(router, resamples, seed, tell)
            measured[router] = Measured.of(sketch.levels(), sketch_draws(sketch, resamples, seed=seed), domains)
        draws = sketch_draws(self.length, resamples, seed=seed)
        measured[LENGTH] = Measured.of(self.length.levels(scale=float(WORD_LIMIT)), draws)
        # What the oracle would divide are prompts of one gain, which may go to either model.
        draws = sketch_draws(self.oracle, resamples, seed=seed, is_divisible=True)
        measured[ORACLE] = Measured.of(self.oracle.levels(is_divisible=True), draws)
        rows = result_rows(measured, random_spread(self.length), listed_costs(pair, prices or PriceList()))
        return BenchmarkResult(
            name,
            self.rows,
            0,
            *pair,
            strong,
            weak,
            scale_of(self.highest_quality) if max_quality is None else max_quality,
            rows,
            unscored=self.unscored,
            notes=(*notes_on(rows, measured), *self._notes()),
        )

    def _domain_results(self, router: str, resamples: int, seed: int, on_progress: OnStep) -> dict[str, DomainResult]:
        found = {}
        for index, (domain, sketch) in enumerate(sorted(self.domains[router].items())):
            on_progress("domains", index, len(self.domains[router]))
            draws = None
            if sketch.strong_quality > sketch.weak_quality:
                draws = sketch_draws(sketch, resamples, seed=domain_seed(domain, seed), cells=_DOMAIN_CELLS)
            found[domain] = domain_result(sketch.levels(), draws)
        return found

    def _notes(self) -> Iterator[str]:
        yield (
            f"Read as a stream: win rates are rounded down to multiples of {2.0**-self.length.bits:.1g}, and "
            "differences of routers, which need all prompts at once, are not computed."
        )
        for reason, count in sorted(self.bad_rows.items()):
            if reason == NOT_RUN:
                continue  # the result counts these as unscored
            yield f"Rows left out: {count:,} ({reason})."
        if self.examples:
            yield f"Examples of rows left out: {'; '.join(self.examples)}."

    def _domain(self, router: str, domain: str) -> QualitySketch:
        known = self.domains[router]
        if domain not in known and len(known) >= MAX_DOMAINS:
            raise DataError(f"{self.columns.domain!r} holds more than {MAX_DOMAINS} domains: is it the right column?")
        return known.setdefault(domain, QualitySketch(_DOMAIN_BITS))


def _places(domains: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    if not domains:
        return {}
    names, index = np.unique(np.array(domains, dtype=object), return_inverse=True)
    return {str(name): np.flatnonzero(index == place) for place, name in enumerate(names)}
