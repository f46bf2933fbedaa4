"""What an embedder is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from routellm_fast.arrays import FloatArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

# How an embedder is kept in a router directory: its manifest entry, tensors and files.
Stored: TypeAlias = "tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, bytes]]"


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


@runtime_checkable
class Storable(Protocol):
    """An embedder that knows how it is kept in a router directory."""

    def stored(self) -> Stored:
        """Return manifest entry, tensors and files."""
        ...


def fingerprint_of(identity: Mapping[str, Any], *contents: bytes | memoryview) -> str:
    """Return "sha256:<hex>" of a JSON-able identity and raw contents."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode())
    for content in contents:
        digest.update(memoryview(content).nbytes.to_bytes(8, "little"))
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def identity_of(embedder: Embedder, *, kind: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the manifest entry of an embedder."""
    return {
        "kind": kind,
        "name": embedder.name,
        "dim": embedder.dim,
        "fingerprint": embedder.fingerprint,
        "settings": dict(settings or {}),
    }
