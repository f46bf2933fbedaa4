"""Quality over win rate in memory that does not grow with the log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.metrics import BINS, Curve, FineCurve, quantiles_of

DEFAULT_BITS: Final = 20
RESAMPLING_CELLS: Final = 2048
MAX_QUALITY: Final = 1024.0
_MAX_BITS: Final = 24
# 63 bits of an int64 hold 31 bits of rows beside 10 bits of quality and 22 of its fraction, or 20 of a product and 12.
_MAX_ROWS: Final = (1 << 31) - 1
_QUALITY_SCALE: Final = float(1 << 22)
_PRODUCT_SCALE: Final = float(1 << 12)
_COLUMNS: Final = 6  # rows, strong, weak, strong², weak², strong·weak
_MIN_PENDING: Final = 1 << 14
# Some 2 MB an array.
_RESAMPLED_AT_ONCE: Final = 1 << 18

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class QualitySketch:
    """Sums of both models' quality in 2^bits equal bins over the win rate; two sketches add up to that of both logs.

    All sums are integers, so the sketch of a log is the same to the bit whatever the size of the chunks, the order in
    which they came, and the number of sketches they were gathered in.

    Every figure is that of the win rates rounded down to a multiple of 2^-bits, 1e-6 by default: exact for a threshold
    on that grid, and for a router whose win rates lie on it. At an equal strong share the curve of the unrounded win
    rates differs by at most `largest_bin_share` times the largest gain of a prompt, for inside a bin alone is the order
    unknown. Qualities are rounded to 2^-22; right-or-wrong answers and half points are exact.

    Memory: at most 2^bits + 1 bins of 56 bytes, and only those that win rates fall into. Routers' win rates lie in a
    narrow band, often 0.5 to 0.65, so the default takes some 9 MB.
    """

    def __init__(self, bits: int = DEFAULT_BITS) -> None:
        """Start empty. Raises InvalidArgumentError unless 1 <= bits <= 24, where float32 has no finer steps below 1."""
        if not 1 <= bits <= _MAX_BITS:
            raise InvalidArgumentError(f"a sketch has between 2^1 and 2^{_MAX_BITS} bins, found bits={bits}")
        self._bits = bits
        self._keys: IntArray = np.empty(0, dtype=np.int64)
        self._sums: IntArray = np.empty((0, _COLUMNS), dtype=np.int64)
        self._pending: list[tuple[IntArray, IntArray]] = []
        self._pending_bins = 0
        self._rows = 0

    def add(self, win_rates: NDArray[np.floating[Any]], strong: FloatArray, weak: FloatArray) -> None:
        """Take in n prompts.

        Args:
            win_rates: (n,) in [0, 1].
            strong: (n,) quality of the strong model's answers, of a size up to 1024.
            weak: The same of the weak model.

        Raises:
            InvalidArgumentError: Shapes differ, or a value is not finite or out of range; nothing was taken in.
            DataError: More than 2^31 - 1 rows, beyond which sums could overflow.
        """
        rates = np.asarray(win_rates, dtype=np.float64)
        qualities = np.asarray(strong, dtype=np.float64), np.asarray(weak, dtype=np.float64)
        _check(rates, *qualities)
        self._check_rows(len(rates))
        if not len(rates):
            return
        first, second = (np.rint(quality * _QUALITY_SCALE) for quality in qualities)
        products = ((a * b) for a, b in ((qualities[0],) * 2, (qualities[1],) * 2, qualities))
        columns = [np.ones_like(rates), first, second, *(np.rint(product * _PRODUCT_SCALE) for product in products)]
        # Scaling by a power of two is exact, so that this rounds down and nothing else.
        keys = np.floor(rates * float(1 << self._bits)).astype(np.int64)
        self._gather(*_grouped(keys, np.stack(columns, axis=1).astype(np.int64)), rows=len(rates))

    def merge(self, other: QualitySketch) -> None:
        """Take in what another sketch has. Raises InvalidArgumentError where its bins are others; see add."""
        if other._bits != self._bits:
            raise InvalidArgumentError(f"a sketch of 2^{other._bits} bins does not add to one of 2^{self._bits}")
        self._check_rows(other._rows)
        other._compact()
        self._gather(other._keys, other._sums, rows=other._rows)

    @property
    def bits(self) -> int:
        """The logarithm of the number of bins."""
        return self._bits

    @property
    def rows(self) -> int:
        """How many prompts were taken in."""
        return self._rows

    @property
    def strong_quality(self) -> float:
        """Mean quality of the strong model alone."""
        return self._mean(1)

    @property
    def weak_quality(self) -> float:
        """Mean quality of the weak model alone."""
        return self._mean(2)

    @property
    def gain_deviation(self) -> float:
        """Standard deviation over prompts of strong minus weak quality."""
        squares = int(self._total(3)) + int(self._total(4)) - 2 * int(self._total(5))
        gain = self.strong_quality - self.weak_quality
        return float(np.sqrt(max(squares / _PRODUCT_SCALE / self._filled() - gain * gain, 0.0)))

    @property
    def largest_bin_share(self) -> float:
        """Share of the prompts in the fullest bin: what bounds the error at a given strong share."""
        rows = self._filled()
        return int(self._compacted()[1][:, 0].max()) / rows

    @property
    def digest(self) -> str:
        """SHA-256 of the content: equal for equal logs, however they were read."""
        keys, sums = self._compacted()
        content = b"".join(
            (self._bits.to_bytes(1, "little"), keys.astype("<i8").tobytes(), sums.astype("<i8").tobytes())
        )
        return hashlib.sha256(content).hexdigest()

    def strong_share(self, threshold: float) -> float:
        """Return the share of prompts whose win rate, rounded down to the grid, is at least the threshold."""
        keys, sums = self._compacted()
        at_least = keys >= np.ceil(threshold * float(1 << self._bits))
        return int(sums[at_least, 0].sum()) / self._filled()

    def points(self) -> FineCurve:
        """Return the whole curve, one point a filled bin."""
        keys, sums = self._compacted()
        rows = self._filled()
        falling = np.cumsum(sums[::-1, :3], axis=0)
        share = np.concatenate([[0.0], falling[:, 0] / rows])
        gain = np.concatenate([[0], falling[:, 1] - falling[:, 2]])
        quality = (int(self._total(2)) + gain) / _QUALITY_SCALE / rows
        thresholds = keys[::-1] / float(1 << self._bits)
        thresholds = np.concatenate([[np.nextafter(thresholds[0], np.inf)], thresholds])
        return FineCurve(share, quality, thresholds, self.strong_quality, self.weak_quality)

    def sweep(self, *, bins: int = BINS) -> Curve:
        """Route at every quantile of the win rates, as metrics.sweep does with those rounded down to the grid."""
        whole = self.points()
        edges = self._quantiles(quantiles_of(bins))
        # Points stand in order of falling thresholds: how many of them lie at or above each edge but the last.
        reached = np.searchsorted(-whole.threshold, -edges[:-1], side="right") - 1
        chosen = np.unique(np.concatenate([[0], reached]))
        return Curve(whole.strong_share[chosen], whole.quality[chosen], whole.strong_quality, whole.weak_quality)

    def histogram(self, bins: int = 60) -> tuple[FloatArray, IntArray]:
        """Return the edges of equal bins from the lowest to the highest win rate, and how many prompts lie in each."""
        keys, sums = self._compacted()
        self._filled()
        low, high = keys[0] / float(1 << self._bits), keys[-1] / float(1 << self._bits)
        if low == high:
            low, high = max(low - 0.5 / bins, 0.0), min(high + 0.5 / bins, 1.0)
        edges = np.linspace(low, high, bins + 1)
        place = np.clip(np.searchsorted(edges, keys / float(1 << self._bits), side="right") - 1, 0, bins - 1)
        counts = np.zeros(bins, dtype=np.int64)
        np.add.at(counts, place, sums[:, 0])
        return edges, counts

    def resamples(
        self, count: int, *, seed: int, cells: int = RESAMPLING_CELLS
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield the curves of bootstrap resamples of the prompts, some at a time, as far as the sums tell.

        Weights drawn for a bin would treat its prompts as one. Instead a resample draws how many prompts come from each
        bin, multinomially, and then the sums of their qualities, normally with the bin's own means and covariance:
        those of a true resample, from which it differs in the third moment within a bin only. Neighbouring bins are put
        together until about as many as wanted are left, which keeps their moments.

        Args:
            count: How many resamples.
            seed: Of the generator.
            cells: How finely thresholds are told apart.

        Yields:
            (b, t) strong share, from 0 to 1, and (b, t) quality, from that of the weak model to that of the strong one.
        """
        sums = self._cells(cells)
        rows = self._filled()
        counts = sums[:, 0]
        means = sums[:, 1:3] / counts[:, None]
        strong_variance = np.maximum(sums[:, 3] / counts - means[:, 0] ** 2, 0.0)
        weak_variance = np.maximum(sums[:, 4] / counts - means[:, 1] ** 2, 0.0)
        covariance = sums[:, 5] / counts - means[:, 0] * means[:, 1]
        # Cholesky factor of each cell's 2 x 2 covariance.
        first = np.sqrt(strong_variance)
        second = np.divide(covariance, first, out=np.zeros_like(first), where=first > 0.0)
        third = np.sqrt(np.maximum(weak_variance - second**2, 0.0))
        generator = np.random.default_rng(seed)
        at_once = max(1, _RESAMPLED_AT_ONCE // len(sums))
        for start in range(0, count, at_once):
            size = min(at_once, count - start)
            drawn = generator.multinomial(rows, counts / rows, size=size).astype(np.float64)
            spread = np.sqrt(drawn)
            normal = generator.standard_normal((2, *drawn.shape))
            strong = drawn * means[:, 0] + spread * first * normal[0]
            weak = drawn * means[:, 1] + spread * (second * normal[0] + third * normal[1])
            nothing = np.zeros((size, 1))
            share = np.concatenate([nothing, drawn.cumsum(axis=1)], axis=1) / rows
            gain = np.concatenate([nothing, (strong - weak).cumsum(axis=1)], axis=1)
            yield share, (weak.sum(axis=1, keepdims=True) + gain) / rows

    def _cells(self, count: int) -> FloatArray:
        """Sums of some `count` runs of neighbouring bins, about equally full, from the highest win rate down."""
        sums = self._compacted()[1][::-1]
        before = np.cumsum(sums[:, 0]) - sums[:, 0]
        cell = before * count // self._filled()
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        scale = np.array([1.0, *[1.0 / _QUALITY_SCALE] * 2, *[1.0 / _PRODUCT_SCALE] * 3])
        return np.asarray(np.add.reduceat(sums, starts, axis=0) * scale, dtype=np.float64)

    def _quantiles(self, wanted: FloatArray) -> FloatArray:
        """numpy.quantile of the rounded win rates."""
        keys, sums = self._compacted()
        ranks = np.cumsum(sums[:, 0])
        position = wanted * (self._filled() - 1)
        below = np.floor(position)
        values = [
            keys[np.searchsorted(ranks, at, side="right")] / float(1 << self._bits)
            for at in (below, np.minimum(below + 1, self._rows - 1))
        ]
        return np.asarray(values[0] + (values[1] - values[0]) * (position - below), dtype=np.float64)

    def _gather(self, keys: IntArray, sums: IntArray, *, rows: int) -> None:
        self._pending.append((keys, sums))
        self._pending_bins += len(keys)
        self._rows += rows
        # Putting together costs a sort of everything: rarely, and so that it doubles memory at most.
        if self._pending_bins > max(_MIN_PENDING, len(self._keys)):
            self._compact()

    def _compact(self) -> None:
        if not self._pending:
            return
        keys, sums = zip((self._keys, self._sums), *self._pending, strict=True)
        self._keys, self._sums = _grouped(np.concatenate(keys), np.concatenate(sums))
        self._pending, self._pending_bins = [], 0

    def _compacted(self) -> tuple[IntArray, IntArray]:
        self._compact()
        return self._keys, self._sums

    def _check_rows(self, more: int) -> None:
        if self._rows + more > _MAX_ROWS:
            raise DataError(
                f"a sketch holds {_MAX_ROWS} rows at most, found {self._rows + more}: evaluate the log in parts"
            )

    def _filled(self) -> int:
        if not self._rows:
            raise DataError("the sketch is empty: no row was taken in")
        return self._rows

    def _total(self, column: int) -> np.int64:
        total: np.int64 = self._compacted()[1][:, column].sum()
        return total

    def _mean(self, column: int) -> float:
        return int(self._total(column)) / _QUALITY_SCALE / self._filled()


def _grouped(keys: IntArray, sums: IntArray) -> tuple[IntArray, IntArray]:
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(sums[order], starts, axis=0)


def _check(rates: FloatArray, strong: FloatArray, weak: FloatArray) -> None:
    if rates.ndim != 1 or strong.shape != rates.shape or weak.shape != rates.shape:
        raise InvalidArgumentError(
            "expected one win rate, one strong and one weak quality a prompt, "
            f"found shapes {rates.shape}, {strong.shape} and {weak.shape}"
        )
    # Comparisons with NaN are false, so it is caught as well.
    outside = np.flatnonzero(~((rates >= 0.0) & (rates <= 1.0)))
    if len(outside):
        raise InvalidArgumentError(f"a win rate lies in [0, 1], found {rates[outside[0]]} at index {outside[0]}")
    for quality in (strong, weak):
        outside = np.flatnonzero(~(np.abs(quality) <= MAX_QUALITY))
        if len(outside):
            raise InvalidArgumentError(
                f"a quality lies in [-{MAX_QUALITY:g}, {MAX_QUALITY:g}], found {quality[outside[0]]} at index "
                f"{outside[0]}: scale it down"
            )
