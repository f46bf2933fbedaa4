"""Reads the answer of an OpenAI-compatible server to a request for embeddings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from enum import Enum
from typing import Any, NoReturn

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import InvalidEmbeddingError


class Flaw(Enum):
    """What is wrong with an answer, as far as asking in another way may mend it."""

    USELESS = "no vectors that can be read"
    ANOTHER_DIM = "vectors of another length"
    OTHER = "anything else"


class UnfitAnswer(Exception):  # noqa: N818 - not one of this package's errors: the embedder makes one of it
    """An answer that does not hold the vectors asked for."""

    def __init__(self, text: str, flaw: Flaw) -> None:
        """Keep the text and the flaw."""
        super().__init__(text)
        self.flaw = flaw


def parse_answer(body: bytes, count: int, dim: int | None, source: str, shown: Callable[[str], str]) -> FloatArray:
    """Return the vectors in the order of the texts.

    Args:
        body: The response, JSON: {"data": [{"index": i, "embedding": numbers or base64 of little-endian float32},
            ...]}. An index may be a number or its digits. Where no vector has one, they are in the order of the texts.
        count: How many texts were sent.
        dim: Length of a vector; None for any, the same for all.
        source: Name of the server in an error's text.
        shown: Returns the part of the server's text that an error may show.

    Raises:
        UnfitAnswer: The answer is anything else than `count` finite vectors of `dim` values, one for each index.
    """
    # No error below is raised while another is handled: Python would attach that one, which holds the server's text.
    items, flaw = _items(body)
    if items is None:
        said = shown(body.decode(errors="replace"))
        _refuse(source, f"{len(body)} bytes that hold no embeddings: {said!r}", flaw)
    if len(items) != count:
        _refuse(source, f"{len(items)} vectors for {count} texts", Flaw.OTHER if items else Flaw.USELESS)
    has_index = any(isinstance(item, dict) and item.get("index") is not None for item in items)
    rows: list[Any] = [None] * count
    for place, item in enumerate(items):
        index = _index(item) if has_index else place
        if not isinstance(item, dict) or index is None or not 0 <= index < count or rows[index] is not None:
            _refuse(source, f"vectors whose index is missing, repeated or outside 0 to {count - 1}")
        embedding = item.get("embedding")
        row = _row(embedding)
        if row is None:
            what = "nothing" if embedding in (None, "", []) else type(embedding).__name__
            _refuse(
                source,
                f"an embedding that is neither a list of numbers nor base64 of float32: {what}",
                Flaw.OTHER if isinstance(embedding, (int, float)) else Flaw.USELESS,
            )
        dim = len(row) if dim is None else dim
        if len(row) != dim:
            _refuse(
                source, f"a vector of dim {len(row)}, expected {dim} (the argument dim= sets this)", Flaw.ANOTHER_DIM
            )
        rows[index] = row
    try:
        return check_vectors(rows, count, dim or 0, source)
    except InvalidEmbeddingError as error:
        unfit = UnfitAnswer(str(error), Flaw.OTHER)
    raise unfit


def _items(body: bytes) -> tuple[list[Any] | None, Flaw]:
    """Return the items; else None, and whether at least the answer is an object of JSON."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None, Flaw.OTHER
    items = answer.get("data") if isinstance(answer, dict) else None
    return (items if isinstance(items, list) else None), (Flaw.USELESS if isinstance(answer, dict) else Flaw.OTHER)


def _index(item: Any) -> int | None:
    index = item.get("index") if isinstance(item, dict) else None
    if isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) < 10:
        return int(index)
    return index if type(index) is int else None


def _row(embedding: Any) -> Any:
    """Return a list or array of values; None for anything else, and where there are none."""
    if isinstance(embedding, list):
        return embedding or None
    try:
        row = np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
    except (TypeError, ValueError):
        return None
    return row if len(row) else None


def _refuse(source: str, what: str, flaw: Flaw = Flaw.OTHER) -> NoReturn:
    raise UnfitAnswer(
        f"{source} answered with {what}. Check that base_url is the address of an OpenAI-compatible API of embeddings.",
        flaw,
    )
