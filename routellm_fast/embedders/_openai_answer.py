"""Reads the answer of an OpenAI-compatible server to a request for embeddings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import InvalidEmbeddingError


def parse_answer(body: bytes, count: int, dim: int, source: str, shown: Callable[[str], str]) -> FloatArray:
    """Return the vectors in the order of the texts.

    Args:
        body: The response, JSON: {"data": [{"index": i, "embedding": numbers or base64 of little-endian float32},
            ...]}.
        count: How many texts were sent.
        dim: Length of a vector.
        source: Name of the server in an error's text.
        shown: Returns the part of the server's text that an error may show.

    Raises:
        InvalidEmbeddingError: The answer is anything else than `count` finite vectors of `dim` values, one for each
            index.
    """
    # No error below is raised while another is handled: Python would attach that one, which holds the server's text.
    items = _items(body)
    if items is None:
        _refuse(source, f"{len(body)} bytes that hold no embeddings: {shown(body.decode(errors='replace'))!r}")
    if len(items) != count:
        _refuse(source, f"{len(items)} vectors for {count} texts")
    rows: list[Any] = [None] * count
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < count or rows[index] is not None:
            _refuse(source, f"vectors whose index is missing, repeated or outside 0 to {count - 1}")
        row = _row(item.get("embedding"))
        if row is None:
            kind = type(item.get("embedding")).__name__
            _refuse(source, f"an embedding that is neither a list of numbers nor base64 of float32: {kind}")
        if len(row) != dim:
            _refuse(source, f"a vector of dim {len(row)}, expected {dim} (the argument dim= sets this)")
        rows[index] = row
    return check_vectors(rows, count, dim, source)


def _items(body: bytes) -> list[Any] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    items = answer.get("data") if isinstance(answer, dict) else None
    return items if isinstance(items, list) else None


def _row(embedding: Any) -> Any:
    if isinstance(embedding, list):
        return embedding
    try:
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    except (TypeError, ValueError):
        return None


def _refuse(source: str, what: str) -> NoReturn:
    raise InvalidEmbeddingError(
        f"{source} answered with {what}. Check that base_url is the address of an OpenAI-compatible API of embeddings."
    )
