"""What an embedder is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

# What numpy.typing.NDArray[np.float32] stands for; importing that module takes longer than all of ours.
FloatArray = np.ndarray[Any, np.dtype[np.float32]]


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Implementations are immutable and thread-safe."""

    @property
    def name(self) -> str:
        """A readable name, e.g. "openai:text-embedding-3-small"."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of model and preprocessing, "sha256:<hex>": equal where the vectors are interchangeable."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32, C-contiguous, finite; (0, dim) for no texts."""
        ...


def check_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list, or raise TypeError naming the element that is not a str."""
    if isinstance(texts, (str, bytes)):
        message = f"expected a sequence of str, found one {type(texts).__name__}: put it into a list"
        raise TypeError(message)
    items = list(texts)
    for index, text in enumerate(items):
        if not isinstance(text, str):
            message = f"text {index} must be str, not {type(text).__name__}"
            raise TypeError(message)
    return items


def fingerprint_of(identity: Mapping[str, Any], *contents: bytes | memoryview) -> str:
    """Return "sha256:<hex>" of a JSON-able identity and raw contents."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode())
    for content in contents:
        digest.update(memoryview(content).nbytes.to_bytes(8, "little"))
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"
