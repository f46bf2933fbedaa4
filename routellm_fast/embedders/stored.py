"""Embedders as part of a router directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.embedders.base import Embedder, Storable, Stored, identity_of
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import ArtifactFormatError, EmbedderMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a directory may say of an OpenAI embedder: never a key, nor how patient its owner is.
OPENAI_SETTINGS: Final = frozenset({"model", "base_url", "dim", "provider", "max_chars"})


def store_embedder(embedder: Embedder) -> Stored:
    """Return manifest entry, tensors and files of an embedder.

    A static embedder is kept whole, an OpenAI one by its settings (never its key); of any other only the identity is
    kept, and whoever loads the router gives it again. A cache is not part of an artifact.
    """
    if isinstance(embedder, Storable):
        return embedder.stored()
    return identity_of(embedder, kind="external"), {}, {}


def restore_embedder(
    spec: Mapping[str, Any] | None,
    tensors: Mapping[str, NDArray[Any]],
    files: Mapping[str, bytes],
    given: Embedder | None,
) -> Embedder | None:
    """Return the embedder of a router directory: the given one if it is the same, else the stored one.

    None where the router has none, or one that only its owner can make: such a router scores embeddings only.

    Raises:
        EmbedderMismatchError: The given embedder differs in dim or fingerprint.
        ArtifactFormatError: The entry breaks the format.
    """
    if spec is None:
        return given
    _check_spec(spec)
    if given is not None:
        check_same_embedder(given, spec)
        return given
    if spec["kind"] == "static":
        embedder: Embedder = StaticEmbedder.from_stored(spec, tensors, files)
    elif spec["kind"] == "openai":
        from routellm_fast.embedders.openai import OpenAIEmbedder  # most routers need none

        unknown = sorted(set(spec["settings"]) - OPENAI_SETTINGS)
        if unknown:
            message = f"the openai embedder's settings hold {', '.join(unknown)}; known are {sorted(OPENAI_SETTINGS)}"
            raise ArtifactFormatError(message)
        try:
            embedder = OpenAIEmbedder(**spec["settings"])
        except (TypeError, ValueError) as error:
            message = f"the openai embedder's settings are not valid: {error}"
            raise ArtifactFormatError(message) from error
    else:
        return None
    check_same_embedder(embedder, spec)
    return embedder


def check_same_embedder(embedder: Embedder, spec: Mapping[str, Any]) -> None:
    """Raise EmbedderMismatchError unless the embedder is the one that the entry describes."""
    for what, found in (("dim", embedder.dim), ("fingerprint", embedder.fingerprint)):
        if found != spec[what]:
            message = (
                f"the router was trained with the embedder {spec['name']} ({what} {spec[what]}), "
                f"but {embedder.name} has {what} {found}: its vectors mean something else. Give the original embedder."
            )
            raise EmbedderMismatchError(message)


def _check_spec(spec: Mapping[str, Any]) -> None:
    types = {"kind": str, "name": str, "dim": int, "fingerprint": str, "settings": dict}
    if set(spec) != set(types) or not all(isinstance(spec[key], kind) for key, kind in types.items()):
        message = f"an embedder entry holds {', '.join(types)}, found {sorted(spec)}"
        raise ArtifactFormatError(message)
    if spec["kind"] not in ("static", "openai", "external"):
        message = f"unknown embedder kind {spec['kind']!r}: expected static, openai or external"
        raise ArtifactFormatError(message)
