"""Battles as the compiled core wants them: distinct embeddings, ordered by the cell of their battles.

A cell is all battles between two tiers that ended alike. The refit of a query needs nothing but the sum of the weights
in each cell, so battles of one cell lie together in the bank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import is_masked
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import InvalidArgumentError, InvalidEmbeddingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.arrays import FloatArray

A_WINS: Final = 0
B_WINS: Final = 1
TIE: Final = 2
_OUTCOMES: Final = {"model_a": A_WINS, "model_b": B_WINS, "tie": TIE}
_MAX_MODELS: Final = 1 << 16
_BLOCK_TENSORS: Final = ("norms", "row_cells", "repeat_rows", "repeat_cells", "repeat_battles")
_CHUNK_ROWS: Final = 8192


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Who met whom, and how it ended: model indices (n,) uint16 and outcomes (n,) uint8."""

    model_a: NDArray[np.uint16]
    model_b: NDArray[np.uint16]
    outcome: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells that battles are in.

    Attributes:
        side_a: (c,) uint16 tiers; the number of tiers stands for RouteLLM's anchor, a rating of 0.
        side_b: (c,) uint16 tiers.
        outcome: (c,) uint8: A_WINS, B_WINS or TIE.
        battles: (c,) float64 how many, at least one.
    """

    side_a: NDArray[np.uint16]
    side_b: NDArray[np.uint16]
    outcome: NDArray[np.uint8]
    battles: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.side_a)


@dataclass(frozen=True, slots=True)
class Block:
    """Battles that came together.

    Attributes:
        rows: (n, dim) float32 embeddings, each once, with the digits that they came with; very long and very short
            ones are scaled by a power of two.
        norms: (n,) float64 their lengths.
        row_cells: (n,) uint32 cell of each row's first battle.
        repeat_rows: (r,) uint32 rows that have further battles.
        repeat_cells: (r,) uint32 cells of those.
        repeat_battles: (r,) float64 how many.
    """

    rows: FloatArray
    norms: NDArray[np.float64]
    row_cells: NDArray[np.uint32]
    repeat_rows: NDArray[np.uint32]
    repeat_cells: NDArray[np.uint32]
    repeat_battles: NDArray[np.float64]

    def entries(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float64]]:
        """Return rows, cells and battles of all entries, first battles before repeated ones."""
        first = np.arange(len(self.row_cells), dtype=np.uint32)
        return (
            np.concatenate([first, self.repeat_rows]),
            np.concatenate([self.row_cells, self.repeat_cells]),
            np.concatenate([np.ones(len(first)), self.repeat_battles]),
        )

    def tensors(self, end: str) -> dict[str, NDArray[Any]]:
        """Return what a router directory keeps besides the rows."""
        return {f"{name}{end}": getattr(self, name) for name in _BLOCK_TENSORS}

    @classmethod
    def restored(cls, number: int, tensors: Mapping[str, NDArray[Any]], mapped: Mapping[str, NDArray[Any]]) -> Block:
        """Return a block of a router directory, whose parts the core has checked."""
        end = suffix(number)
        return cls(mapped[f"bank{end}"], *(tensors[f"{name}{end}"] for name in _BLOCK_TENSORS))


def suffix(number: int) -> str:
    """Return what a block's tensors are called behind their name: nothing for the first."""
    return "" if number == 0 else f".{number}"


def check_embeddings(embeddings: Any, count: int) -> FloatArray:
    """Return embeddings as (count, dim) float32. Raises InvalidEmbeddingError."""
    if is_masked(embeddings):
        raise InvalidEmbeddingError(
            "embeddings are a masked array, whose masked values would be read as numbers: fill them"
        )
    try:
        array = np.asarray(embeddings)
    except ValueError as error:
        raise InvalidEmbeddingError(
            "embeddings have rows of unequal lengths: expected an array of shape (battles, dim)"
        ) from error
    if array.ndim != 2:
        raise InvalidEmbeddingError(
            f"embeddings must be real numbers of shape ({count}, dim), found {array.dtype} {array.shape}"
        )
    return check_vectors(array, count, array.shape[1], "the embedder of the battles")


def encode_battles(
    model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str], names: Mapping[str, int] | None
) -> tuple[Outcomes, list[str], list[str]]:
    """Turn names into numbers.

    Args:
        model_a: The first model of each battle.
        model_b: The second.
        winner: "model_a", "model_b" or "tie".
        names: Known models and their indices; None takes all, in the order in which they first occur among all model_a,
            then all model_b: RouteLLM's, which decides between equal ratings.

    Returns:
        The battles, the models in the order of their indices, and the models that are not among `names`.

    Raises:
        InvalidArgumentError: No battle, unequal lengths, another winner, or a name that is not str.
    """
    if not len(model_a) == len(model_b) == len(winner):
        raise InvalidArgumentError(
            f"model_a, model_b and winner must have one value a battle, "
            f"found {len(model_a)}, {len(model_b)} and {len(winner)}"
        )
    if not len(winner):
        raise InvalidArgumentError("there is no battle: a router needs at least one")
    seen = list(dict.fromkeys((*model_a, *model_b)))
    for name in seen:
        if not isinstance(name, str):
            raise InvalidArgumentError(
                f"a battle is between two models by name, found {name!r} among model_a and model_b"
            )
    index = {name: number for number, name in enumerate(seen)} if names is None else dict(names)
    unknown = [name for name in seen if name not in index]
    if len(index) > _MAX_MODELS:
        raise InvalidArgumentError(f"at most {_MAX_MODELS} models fit, found {len(index)}")
    outcomes = np.empty(len(winner), np.uint8)
    for battle, result in enumerate(winner):
        if result not in _OUTCOMES:
            raise InvalidArgumentError(f"battle {battle}: winner must be model_a, model_b or tie, found {result!r}")
        outcomes[battle] = _OUTCOMES[result]
    if unknown:
        return Outcomes(np.empty(0, np.uint16), np.empty(0, np.uint16), outcomes), list(index), unknown
    battles = Outcomes(
        np.array([index[name] for name in model_a], np.uint16),
        np.array([index[name] for name in model_b], np.uint16),
        outcomes,
    )
    return battles, list(index), []


def cell_keys(battles: Outcomes, tiers: NDArray[np.uint16], num_tiers: int) -> NDArray[np.int64]:
    """Return the cell of each battle as one number, (side_a, side_b, outcome) in mixed radix.

    A battle inside a tier becomes one of the anchor against it, won by the anchor where model_a won: what RouteLLM's
    design matrix makes of it. Between tiers the better tier comes first, so that both orders share a cell.
    """
    a, b = tiers[battles.model_a].astype(np.int64), tiers[battles.model_b].astype(np.int64)
    outcome = battles.outcome.astype(np.int64)
    turned = np.where(outcome == TIE, TIE, 1 - outcome)
    outcome = np.where(a > b, turned, outcome)
    a, b = np.where(a == b, num_tiers, np.minimum(a, b)), np.maximum(a, b)
    keys: NDArray[np.int64] = (a * (num_tiers + 1) + b) * 3 + outcome
    return keys


def is_same_tier(keys: NDArray[np.int64], num_tiers: int) -> NDArray[np.bool_]:
    """Say which battles are inside one tier."""
    same: NDArray[np.bool_] = keys // (3 * (num_tiers + 1)) == num_tiers
    return same


def cells_of(keys: NDArray[np.int64], battles: NDArray[np.float64], num_tiers: int) -> Cells:
    """Return the cells of sorted or unsorted distinct keys."""
    sides, outcome = np.divmod(keys, 3)
    side_a, side_b = np.divmod(sides, num_tiers + 1)
    return Cells(side_a.astype(np.uint16), side_b.astype(np.uint16), outcome.astype(np.uint8), battles)


def keys_of(cells: Cells, num_tiers: int) -> NDArray[np.int64]:
    """Return the keys of cells: the inverse of cells_of."""
    keys: NDArray[np.int64] = (cells.side_a.astype(np.int64) * (num_tiers + 1) + cells.side_b) * 3 + cells.outcome
    return keys


def make_block(embeddings: FloatArray, cells: NDArray[np.int64]) -> Block:
    """Return the block of battles whose cells are given: each distinct embedding once, ordered by its first cell.

    Args:
        embeddings: (n, dim) float32, one a battle.
        cells: (n,) index of each battle's cell.

    Raises:
        InvalidEmbeddingError: A row is zero or not finite; the text names it.
    """
    norms = _core.row_norms(embeddings)
    first = _core.distinct_rows(embeddings).astype(np.int64)
    width = int(cells.max()) + 1
    # One entry for each embedding and cell that meet.
    pairs, counts = np.unique(first * width + cells, return_counts=True)
    rows, entry_cells = np.divmod(pairs, width)
    starts = np.flatnonzero(np.diff(rows, prepend=-1))  # pairs are sorted: a row's first entry is its first cell
    order = np.argsort(entry_cells[starts], kind="stable")
    distinct = rows[starts][order]
    place = np.empty(len(embeddings), np.int64)
    place[distinct] = np.arange(len(distinct))
    repeats = counts.astype(np.float64)
    repeats[starts] -= 1.0
    again = repeats > 0
    by_cell = np.argsort(entry_cells[again], kind="stable")

    # A power of two changes no digit. Lengths near 1, as most embedders give, need none.
    lengths = norms[distinct]
    factors = np.where((lengths > 0.5) & (lengths < 2.0), 1.0, np.exp2(-np.floor(np.log2(lengths))))
    ordered = np.empty((len(distinct), embeddings.shape[1]), np.float32)
    for begin in range(0, len(distinct), _CHUNK_ROWS):  # never a second copy of a large bank
        end = begin + _CHUNK_ROWS
        ordered[begin:end] = embeddings[distinct[begin:end]]
        if (factors[begin:end] != 1.0).any():
            ordered[begin:end] = ordered[begin:end] * factors[begin:end, None]  # in float64
    return Block(
        rows=ordered,
        norms=lengths * factors,
        row_cells=entry_cells[starts][order].astype(np.uint32),
        repeat_rows=place[rows[again]][by_cell].astype(np.uint32),
        repeat_cells=entry_cells[again][by_cell].astype(np.uint32),
        repeat_battles=repeats[again][by_cell],
    )
