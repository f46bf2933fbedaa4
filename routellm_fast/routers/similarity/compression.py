"""Smaller forms of a bank of battles, made from it once and kept with it.

Both look at unit embeddings b through the bank's mean m and its principal axes V:
e . b = e . m + (V e) . (V (b - m)), but for what the axes leave out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from routellm_fast import _core
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.similarity.bank import suffix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.arrays import FloatArray
    from routellm_fast.routers.similarity.bank import Block, Cells

_PANEL: Final = 16
_CHUNK_ROWS: Final = 4096  # a multiple of _PANEL
_AXES_SAMPLE: Final = 16_384
_CODE_AXES: Final = 256
_MOMENT_AXES: Final = 128
_SCANNED_ROWS: Final = 16_384
_ROWS_A_CLUSTER: Final = 512
_MAX_CLUSTERS: Final = 2048
_CLUSTER_SAMPLE: Final = 64  # rows a cluster
_CLUSTER_ROUNDS: Final = 8
_NO_ROW: Final = 0xFFFFFFFF
_PROBE_WORK: Final = 100_000_000_000  # multiply-adds spent on measuring the error
_MAX_PROBES: Final = 1024
_MIN_PROBES: Final = 64


@dataclass(frozen=True, slots=True)
class Axes:
    """A bank's mean (dim,), its principal axes (axes, dim), both float32, and how two embeddings meet outside of them.

    Attributes:
        mean: The mean of unit embeddings.
        axes: Orthonormal rows.
        variances: (axes,) float64 variance along each.
        left_out: Mean squared length of what the axes leave out of a unit embedding less the mean.
    """

    mean: FloatArray
    axes: FloatArray
    variances: NDArray[np.float64]
    left_out: float

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return what a router directory keeps."""
        return {"axes_mean": self.mean, "axes": self.axes, "axes_variances": self.variances}


class Compressed(ABC):
    """A smaller form of the battles."""

    precision: ClassVar[str]
    axes: Axes
    error_bound: float
    reach: float

    @abstractmethod
    def extended(self, block: Block, cells: Cells) -> Compressed:
        """Return the form with one more block, in the same axes; `cells` are all, the old ones first."""

    @property
    @abstractmethod
    def bytes_per_query(self) -> int:
        """How much of the tensors one query reads."""

    @abstractmethod
    def measured(self, reach: float, error_bound: float) -> Compressed:
        """Return the form with these properties."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what is kept besides tensors, JSON-able."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the small tensors by name."""

    @abstractmethod
    def mapped(self) -> dict[str, NDArray[Any]]:
        """Return the large tensors by name."""


@dataclass(frozen=True)
class Coded(Compressed):
    """One byte for each coordinate of each row.

    Attributes:
        axes: What the coordinates mean.
        panels: Codes of each block, (panels, axes / 4, 16, 4) uint8.
        scales: Their scales, (16 panels,) float32.
        residuals: (cells, dim) float64 sums of what the codes leave out of the battles of a cell.
        battles: (cells,) float64 how many those are.
        error_bound: See SimilarityWeightedRouter.error_bound.
        reach: Queries whose largest cosine is below this are answered by the bank itself.
    """

    precision: ClassVar[str] = "int8"

    axes: Axes
    panels: tuple[NDArray[np.uint8], ...]
    scales: tuple[FloatArray, ...]
    residuals: NDArray[np.float64]
    battles: NDArray[np.float64]
    error_bound: float = 1.0
    reach: float = 0.0

    @classmethod
    def make(cls, blocks: Sequence[Block], cells: Cells, axis_count: int | None) -> Coded:
        """Compress blocks."""
        axes = find_axes(blocks, axis_count or _CODE_AXES)
        empty = np.zeros((0, axes.mean.shape[0]))
        form: Coded = cls(axes, (), (), empty, np.zeros(0))
        for block in blocks:
            form = form.extended(block, cells)
        return form

    def extended(self, block: Block, cells: Cells) -> Coded:
        """Return the form with one more block."""
        axes, count = self.axes, len(block.rows)
        padded = (len(axes.axes) + 3) // 4
        panels = np.empty(((count + _PANEL - 1) // _PANEL, padded, _PANEL, 4), np.uint8)
        scales = np.empty(len(panels) * _PANEL, np.float32)
        residuals = _grown(self.residuals, len(cells))
        for begin, centred, weights, members in _chunks(block, axes.mean):
            coordinates = centred @ axes.axes.T
            codes, steps = _core.encode_panels(coordinates)
            panels[begin // _PANEL : begin // _PANEL + len(codes)] = codes
            scales[begin : begin + len(steps)] = steps
            step = steps[: len(coordinates), None]
            kept = np.rint(np.divide(coordinates, step, out=np.zeros_like(coordinates), where=step > 0)) * step
            residuals[members] += weights @ (centred - kept @ axes.axes)
        return replace(
            self,
            panels=(*self.panels, panels),
            scales=(*self.scales, scales),
            residuals=residuals,
            battles=cells.battles,
        )

    @property
    def bytes_per_query(self) -> int:
        """How much of the tensors one query reads: all codes, axes and residuals."""
        codes = sum(panels.nbytes for panels in self.panels) + sum(scales.nbytes for scales in self.scales)
        return codes + self.axes.axes.nbytes + self.residuals.nbytes // 2  # float32 once compiled

    def measured(self, reach: float, error_bound: float) -> Coded:
        """Return the form with these properties."""
        return replace(self, reach=reach, error_bound=error_bound)

    def settings(self) -> dict[str, Any]:
        """Return what is kept besides tensors."""
        return _common_settings(self, self.axes)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the small tensors by name."""
        scales = {f"code_scales{suffix(k)}": scale for k, scale in enumerate(self.scales)}
        return {**self.axes.tensors(), "residuals": self.residuals, **scales}

    def mapped(self) -> dict[str, NDArray[Any]]:
        """Return the large tensors by name."""
        return {f"codes{suffix(k)}": panels for k, panels in enumerate(self.panels)}

    @classmethod
    def restored(cls, parts: _Parts, block_count: int, cells: Cells) -> Coded:
        """Return the form of a router directory."""
        ends = [suffix(number) for number in range(block_count)]
        return cls(
            parts.axes(),
            tuple(parts.mapped[f"codes{end}"] for end in ends),
            tuple(parts.tensors[f"code_scales{end}"] for end in ends),
            parts.tensors["residuals"],
            cells.battles,
            parts.number("error_bound"),
            parts.number("reach"),
        )


@dataclass(frozen=True, slots=True)
class ClusteredBlock:
    """Codes of one block's rows, those of one cluster together in panels of their own.

    Attributes:
        panels: (panels, axes / 4, 16, 4) uint8.
        scales: (16 panels,) float32.
        first_panel: (clusters + 1,) uint32.
        rows: (16 panels,) uint32 rows of the block; 2^32 - 1 for padding.
        cells: (16 panels,) uint32 cells of their first battles; 2^32 - 1 for padding.
    """

    panels: NDArray[np.uint8]
    scales: FloatArray
    first_panel: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    cells: NDArray[np.uint32]


@dataclass(frozen=True)
class Moments(Compressed):
    """Number, sum and second moments of each cell's embeddings, and clusters in which the largest cosine is looked for.

    Attributes:
        axes: What coordinates mean.
        sums: (cells, dim) float64 sums of unit embeddings less the mean.
        products: (cells, a(a+1)/2) float64 sums of products of two of the a coordinates, or one's square.
        centroids: (clusters, axes) float32.
        clustered: The codes of each block.
        error_bound: See SimilarityWeightedRouter.error_bound.
        reach: Queries whose largest cosine is below this are answered by the bank itself.
    """

    precision: ClassVar[str] = "moments"

    axes: Axes
    sums: NDArray[np.float64]
    products: NDArray[np.float64]
    centroids: FloatArray
    clustered: tuple[ClusteredBlock, ...] = ()
    error_bound: float = 1.0
    reach: float = 0.0

    @classmethod
    def make(cls, blocks: Sequence[Block], cells: Cells, axis_count: int | None) -> Moments:
        """Compress blocks."""
        axes = find_axes(blocks, axis_count or _MOMENT_AXES)
        count = len(axes.axes)
        form: Moments = cls(
            axes,
            np.zeros((0, axes.mean.shape[0])),
            np.zeros((0, count * (count + 1) // 2)),
            find_centroids(blocks, axes),
        )
        for block in blocks:
            form = form.extended(block, cells)
        return form

    def extended(self, block: Block, cells: Cells) -> Moments:
        """Return the form with one more block."""
        axes = self.axes
        first, second = np.triu_indices(len(axes.axes))
        sums, products = _grown(self.sums, len(cells)), _grown(self.products, len(cells))
        coordinates = np.empty((len(block.rows), len(axes.axes)), np.float32)
        for begin, centred, weights, members in _chunks(block, axes.mean):
            part = centred @ axes.axes.T
            coordinates[begin : begin + len(part)] = part
            sums[members] += weights @ centred
            pairs = part[:, first]
            pairs *= part[:, second]
            products[members] += weights @ pairs
        members_of = _nearest(coordinates, self.centroids)
        clustered = _clustered(coordinates, members_of, len(self.centroids), block.row_cells)
        return replace(self, sums=sums, products=products, clustered=(*self.clustered, clustered))

    @property
    def bytes_per_query(self) -> int:
        """How much of the tensors one query reads: all moments, axes and centroids, the codes of some clusters."""
        moments = (self.sums.nbytes + self.products.nbytes) // 2  # float32 once compiled
        rows = sum(len(block.rows) for block in self.clustered)
        scanned = min(rows, _SCANNED_ROWS) * (len(self.axes.axes) + 12)  # codes, scale, row and cell
        return moments + self.axes.axes.nbytes + self.centroids.nbytes + scanned

    def measured(self, reach: float, error_bound: float) -> Moments:
        """Return the form with these properties."""
        return replace(self, reach=reach, error_bound=error_bound)

    def settings(self) -> dict[str, Any]:
        """Return what is kept besides tensors."""
        return _common_settings(self, self.axes)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the small tensors by name."""
        tensors: dict[str, NDArray[Any]] = {
            **self.axes.tensors(),
            "moment_sums": self.sums,
            "moment_products": self.products,
            "centroids": self.centroids,
        }
        for k, block in enumerate(self.clustered):
            tensors[f"code_scales{suffix(k)}"] = block.scales
            tensors[f"cluster_panels{suffix(k)}"] = block.first_panel
            tensors[f"cluster_rows{suffix(k)}"] = block.rows
            tensors[f"cluster_cells{suffix(k)}"] = block.cells
        return tensors

    def mapped(self) -> dict[str, NDArray[Any]]:
        """Return the large tensors by name."""
        return {f"codes{suffix(k)}": block.panels for k, block in enumerate(self.clustered)}

    @classmethod
    def restored(cls, parts: _Parts, block_count: int, cells: Cells) -> Moments:  # noqa: ARG003 - as Coded's
        """Return the form of a router directory."""
        names = ("code_scales", "cluster_panels", "cluster_rows", "cluster_cells")
        clustered = [
            ClusteredBlock(parts.mapped[f"codes{end}"], *(parts.tensors[f"{name}{end}"] for name in names))
            for end in (suffix(number) for number in range(block_count))
        ]
        return cls(
            parts.axes(),
            parts.tensors["moment_sums"],
            parts.tensors["moment_products"],
            parts.tensors["centroids"],
            tuple(clustered),
            parts.number("error_bound"),
            parts.number("reach"),
        )


_FORMS: Final[Mapping[str, type[Coded] | type[Moments]]] = {form.precision: form for form in (Coded, Moments)}


def compress(precision: str, blocks: Sequence[Block], cells: Cells, pca_dim: int | None) -> Compressed:
    """Return a smaller form of blocks; its error is not measured yet.

    Raises:
        InvalidArgumentError: pca_dim is below 1 or above the embeddings' dimension.
    """
    dim = blocks[0].rows.shape[1]
    if pca_dim is not None and not (type(pca_dim) is int and 1 <= pca_dim <= dim):
        raise InvalidArgumentError(
            f"pca_dim must be an integer from 1 to the embeddings' {dim} dimensions, found {pca_dim!r}"
        )
    return _FORMS[precision].make(blocks, cells, pca_dim)


def restored_form(
    settings: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    mapped: Mapping[str, NDArray[Any]],
    blocks: Sequence[Block],
    cells: Cells,
) -> Compressed:
    """Return the smaller form of a router directory, whose parts the core has checked."""
    return _FORMS[settings["precision"]].restored(_Parts(settings, tensors, mapped), len(blocks), cells)


def make_probes(blocks: Sequence[Block], axes: Axes) -> FloatArray:
    """Return (n, dim) queries to measure an error on, from near repetitions to prompts unlike any in the bank.

    Each is a share of one of the bank's embeddings and, for the rest, a fresh draw from a normal distribution of the
    bank's mean and covariance. Fewer where the bank is large, since each is also scored exactly.
    """
    dim, total = blocks[0].rows.shape[1], sum(len(block.rows) for block in blocks)
    count = int(np.clip(_PROBE_WORK // (dim * total), _MIN_PROBES, _MAX_PROBES))
    generator = np.random.default_rng(0)
    known = _unit_rows(blocks, generator.integers(total, size=count))
    inside = generator.normal(size=(count, len(axes.axes))) * np.sqrt(axes.variances) @ axes.axes
    outside = generator.normal(size=(count, dim)) * np.sqrt(axes.left_out / dim)
    share = generator.uniform(size=(count, 1)) ** 2  # repetitions are the exception
    drawn = axes.mean + np.sqrt(1.0 - share) * (inside + outside) + np.sqrt(share) * (known - axes.mean)
    return np.ascontiguousarray(drawn, dtype=np.float32)


def find_axes(blocks: Sequence[Block], count: int) -> Axes:
    """Return mean and principal axes of a sample of the bank, or of all of a small one."""
    total = sum(len(block.rows) for block in blocks)
    dim = blocks[0].rows.shape[1]
    chosen = np.arange(total)
    if total > _AXES_SAMPLE:
        chosen = np.sort(np.random.default_rng(0).choice(total, _AXES_SAMPLE, replace=False))
    sample = _unit_rows(blocks, chosen)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    variances, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64) / len(sample))
    count = min(count, dim)
    axes = np.ascontiguousarray(vectors[:, ::-1][:, :count].T, dtype=np.float32)
    kept = np.ascontiguousarray(np.maximum(variances[::-1][:count], 0.0))
    return Axes(mean, axes, kept, max(float(variances[: dim - count].sum()), 0.0))


def find_centroids(blocks: Sequence[Block], axes: Axes) -> FloatArray:
    """Return cluster centres of the bank's coordinates, (clusters, axes) float32, by Lloyd's algorithm on a sample."""
    generator = np.random.default_rng(0)
    total = sum(len(block.rows) for block in blocks)
    clusters = int(np.clip(total // _ROWS_A_CLUSTER, 1, _MAX_CLUSTERS))
    chosen = np.sort(generator.choice(total, min(total, clusters * _CLUSTER_SAMPLE), replace=False))
    sample = (_unit_rows(blocks, chosen) - axes.mean) @ axes.axes.T
    centroids = sample[generator.choice(len(sample), clusters, replace=False)]
    for _ in range(_CLUSTER_ROUNDS):
        members = _nearest(sample, centroids)
        order = np.argsort(members, kind="stable")
        present, starts = np.unique(members[order], return_index=True)
        counts = np.diff(np.append(starts, len(sample)))
        centroids[present] = np.add.reduceat(sample[order], starts) / counts[:, None]
    return np.ascontiguousarray(centroids, dtype=np.float32)


def _nearest(points: FloatArray, centroids: FloatArray) -> NDArray[np.int64]:
    half_squares = 0.5 * np.einsum("kd,kd->k", centroids, centroids)
    parts = [
        np.argmax(points[begin : begin + _CHUNK_ROWS] @ centroids.T - half_squares, axis=1)
        for begin in range(0, len(points), _CHUNK_ROWS)
    ]
    return np.concatenate(parts)


def _clustered(
    coordinates: FloatArray, members: NDArray[np.int64], clusters: int, cells: NDArray[np.uint32]
) -> ClusteredBlock:
    counts = np.bincount(members, minlength=clusters)
    first_panel = np.concatenate([[0], np.cumsum((counts + _PANEL - 1) // _PANEL)])
    order = np.argsort(members, kind="stable")
    # Each cluster begins at a panel; a row's place is its rank within the cluster behind that.
    begins = np.repeat(first_panel[:-1] * _PANEL, counts)
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.full(int(first_panel[-1]) * _PANEL, _NO_ROW, np.uint32)
    rows[begins + ranks] = order
    row_cells = np.full(len(rows), _NO_ROW, np.uint32)
    row_cells[begins + ranks] = cells[order]
    panels = np.empty((int(first_panel[-1]), (coordinates.shape[1] + 3) // 4, _PANEL, 4), np.uint8)
    scales = np.empty(len(rows), np.float32)
    for begin in range(0, len(rows), _CHUNK_ROWS):
        part = rows[begin : begin + _CHUNK_ROWS]
        points = np.where((part == _NO_ROW)[:, None], np.float32(0), coordinates[np.where(part == _NO_ROW, 0, part)])
        codes, steps = _core.encode_panels(points)
        panels[begin // _PANEL : begin // _PANEL + len(codes)] = codes
        scales[begin : begin + len(steps)] = steps
    return ClusteredBlock(panels, scales, first_panel.astype(np.uint32), rows, row_cells)


def _chunks(block: Block, mean: FloatArray) -> Iterator[tuple[int, FloatArray, FloatArray, NDArray[np.int64]]]:
    """Yield chunks of a block with what sums them by cell.

    Each is its first row, its unit embeddings less the mean, the battles (cells, rows), and which cells those are.
    """
    rows, cells, battles = block.entries()
    order = np.argsort(rows, kind="stable")
    rows, cells, battles = rows[order], cells[order], battles[order]
    for begin in range(0, len(block.rows), _CHUNK_ROWS):
        end = min(begin + _CHUNK_ROWS, len(block.rows))
        lengths: FloatArray = block.norms[begin:end, None].astype(np.float32)
        centred: FloatArray = np.subtract(block.rows[begin:end] / lengths, mean)
        inside = slice(*np.searchsorted(rows, [begin, end]))
        members, place = np.unique(cells[inside], return_inverse=True)
        weights = np.zeros((len(members), end - begin), np.float32)
        weights[place, rows[inside].astype(np.int64) - begin] = battles[inside]
        yield begin, centred, weights, members.astype(np.int64)


def _unit_rows(blocks: Sequence[Block], indices: NDArray[np.int64]) -> FloatArray:
    """Rows of all blocks, counted through, at length one."""
    result = np.empty((len(indices), blocks[0].rows.shape[1]), np.float32)
    begin = 0
    for block in blocks:
        here = (indices >= begin) & (indices < begin + len(block.rows))
        local = indices[here] - begin
        result[here] = block.rows[local] / block.norms[local, None]
        begin += len(block.rows)
    return result


def _grown(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """A copy with zeros for cells that are new."""
    result = np.zeros((count, values.shape[1]))
    result[: len(values)] = values
    return result


def _common_settings(form: Compressed, axes: Axes) -> dict[str, Any]:
    return {
        "precision": form.precision,
        "left_out": axes.left_out,
        "error_bound": form.error_bound,
        "reach": form.reach,
    }


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a router directory says of its compression."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    mapped: Mapping[str, NDArray[Any]]

    def number(self, key: str) -> float:
        return float(self.settings[key])

    def axes(self) -> Axes:
        mean, axes, variances = (self.tensors[name] for name in ("axes_mean", "axes", "axes_variances"))
        return Axes(mean, axes, variances, self.number("left_out"))
