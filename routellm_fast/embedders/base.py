"""The interface of embedders, and what identifies one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from routellm_fast.arrays import FloatArray
from routellm_fast.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The parts of an embedder in a router directory: its manifest entry, its tensors and its files, by name.
Stored: TypeAlias = "tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, bytes]]"


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. Implementations are immutable and thread-safe."""

    @property
    def name(self) -> str:
        """A name for people, e.g. "openai:text-embedding-3-small"."""
        ...

    @property
    def dim(self) -> int:
        """Number of values in a vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of the model and its preprocessing, "sha256:<hex>". Equal where two embedders give equal vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts: (n, dim) float32, C-contiguous, finite; (0, dim) for no texts."""
        ...


@runtime_checkable
class KnowsExcerpts(Protocol):
    """An embedder that knows of which texts it reads a part only."""

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether `embed` reads all of it."""
        ...


@runtime_checkable
class Storable(Protocol):
    """An embedder that can be stored in a router directory."""

    def stored(self) -> Stored:
        """Return the manifest entry, the tensors and the files that a router directory needs."""
        ...


def checked_embedder(value: Any) -> Embedder:
    """Return an embedder after checking that it has the face of one, so that a mistake shows where it was made.

    Raises:
        TypeError: It lacks a member of Embedder, or is a class.
        InvalidArgumentError: Its dim is no integer of at least 1, or its name or fingerprint is no text.
    """
    kind = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    missing = [name for name in ("name", "dim", "fingerprint", "embed") if not hasattr(value, name)]
    if missing or isinstance(value, type):
        what = f", which has no {', '.join(missing)}" if missing else ": make an object of it"
        raise TypeError(
            f"an embedder has name, dim, fingerprint and embed, found {kind}{what}. FunctionEmbedder makes one of a "
            "function"
        )
    for name, text in (("name", value.name), ("fingerprint", value.fingerprint)):
        if not isinstance(text, str) or not text:
            raise InvalidArgumentError(f"the {name} of an embedder is a text, found {text!r} of {kind}")
    checked_dim(value.dim, f"the dim of {kind}")
    embedder: Embedder = value
    return embedder


def checked_dim(value: Any, what: str = "dim") -> int:
    """Return a number of dimensions. Raises InvalidArgumentError unless it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidArgumentError(f"{what} must be an integer of at least 1, found {value!r}")
    return int(value)


def fingerprint_of(identity: Mapping[str, Any], *contents: bytes | memoryview) -> str:
    """Return the digest "sha256:<hex>" of a JSON-able identity followed by raw contents."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, ensure_ascii=False).encode())
    for content in contents:
        digest.update(memoryview(content).nbytes.to_bytes(8, "little"))
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def identity_of(embedder: Embedder, *, kind: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the manifest entry of an embedder: kind, name, dim, fingerprint and settings."""
    return {
        "kind": kind,
        "name": embedder.name,
        "dim": embedder.dim,
        "fingerprint": embedder.fingerprint,
        "settings": dict(settings or {}),
    }
