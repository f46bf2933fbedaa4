"""Checks the vectors that an embedder returns."""

from __future__ import annotations

from typing import Any

import numpy as np

from routellm_fast.arrays import FloatArray, is_masked
from routellm_fast.errors import InvalidEmbeddingError


def check_vectors(values: Any, count: int, dim: int, source: str) -> FloatArray:
    """Return values as a C-contiguous float32 array of shape (count, dim). An array that is one already is not copied.

    Args:
        values: Real numbers of any type, in an array or in anything that numpy can make an array of.
        count: Expected number of rows.
        dim: Expected number of columns.
        source: What made the values, for the error's text.

    Raises:
        InvalidEmbeddingError: The values are not numbers or have another shape, or one is not finite as float32; the
            text names its row.
    """
    if is_masked(values):
        raise InvalidEmbeddingError(
            f"{source} returned a masked array, whose masked values would be read as numbers: fill them"
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidEmbeddingError(
            f"{source} returned vectors of unequal lengths: expected an array of shape ({count}, {dim})"
        ) from error
    if array.shape != (count, dim) or array.dtype.kind not in "fiu":
        raise InvalidEmbeddingError(
            f"{source} returned {array.dtype} {array.shape}: expected real numbers of shape ({count}, {dim})"
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is named below
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidEmbeddingError(
            f"{source} returned {array[row, column]} in row {row}, column {column}: expected finite float32 values"
        )
    return vectors
