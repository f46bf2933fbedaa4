"""Quality over win rate in memory that does not grow with the log."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.levels import Levels

DEFAULT_BITS: Final = 20
MAX_QUALITY: Final = 1024.0
_MAX_BITS: Final = 24
# 63 bits of an int64 hold 31 bits of rows beside 10 bits of quality and 22 of its fraction, or 20 of a product and 12.
_MAX_ROWS: Final = (1 << 31) - 1
_QUALITY_SCALE: Final = float(1 << 22)
_PRODUCT_SCALE: Final = float(1 << 12)
_COLUMNS: Final = 6  # rows, strong, weak, strong², weak², strong·weak
_MIN_PENDING: Final = 1 << 14

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
            weak: The same for the weak model.

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

    def levels(self, *, scale: float = 1.0, is_divisible: bool = False) -> Levels:
        """Return what metrics need to know, one level a filled bin.

        Args:
            scale: Factor for the win rates; a power of two is exact.
            is_divisible: See Levels.
        """
        self._filled()
        keys, sums = self._compacted()
        return Levels(
            self._rates(keys) * scale,
            np.cumsum(sums[:, 0]),
            np.cumsum(sums[:, 1] - sums[:, 2]) / _QUALITY_SCALE,
            int(self._total(1)) / _QUALITY_SCALE,
            int(self._total(2)) / _QUALITY_SCALE,
            is_divisible=is_divisible,
        )

    def cells(self, count: int) -> tuple[FloatArray, FloatArray]:
        """Return some `count` runs of neighbouring bins, about equally full, by rising win rate.

        Returns:
            (cells,) the lowest win rate of each, and (cells, 6) its number of prompts and its sums of the strong
            quality, the weak quality, their squares and their product.
        """
        keys, sums = (column[::-1] for column in self._compacted())
        before = np.cumsum(sums[:, 0]) - sums[:, 0]
        cell = before * count // self._filled()
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        scale = np.array([1.0, *[1.0 / _QUALITY_SCALE] * 2, *[1.0 / _PRODUCT_SCALE] * 3])
        lowest = keys[np.append(starts[1:], len(keys)) - 1]
        return self._rates(lowest)[::-1], (np.add.reduceat(sums, starts, axis=0) * scale)[::-1]

    def _rates(self, keys: IntArray) -> FloatArray:
        return np.asarray(keys / float(1 << self._bits))

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
