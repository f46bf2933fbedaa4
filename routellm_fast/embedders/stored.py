"""Embedders as part of a router directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.base import Embedder, Storable, Stored, identity_of
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import ArtifactFormatError, EmbedderMismatchError
from routellm_fast.origin import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a directory may say of an OpenAI embedder: never a key, nor how patient its owner is.
OPENAI_SETTINGS: Final = frozenset({"model", "base_url", "dim", "provider", "max_chars"})

_KINDS: Final = ("static", "shipped", "openai", "external", "onnx")

# The one table that others may refer to: that of the router that ships, without its surface features.
_SHIPPED_ROUTER: Final = Path(__file__).parent.parent / "assets" / "mf"
_SHIPPED_SETTINGS: Final = {"router": _SHIPPED_ROUTER.name, "surface_features": []}


class ShippedEmbedder:
    """The tokens of the embedder that ships, kept in a router directory as a reference: the table ships once.

    A reference holds as long as the package's table is the same, so that only routers that ship beside it are made with
    this. What `restore_embedder` makes of the reference is the embedder itself: a router that is loaded and saved again
    holds the table, and no longer depends on the package.
    """

    def __init__(self) -> None:
        """Read the table."""
        self._embedder = StaticEmbedder.load(_SHIPPED_ROUTER).tokens_only()

    @property
    def name(self) -> str:
        """The embedder's name."""
        return self._embedder.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._embedder.dim

    @property
    def fingerprint(self) -> str:
        """The embedder's own: the vectors are the same."""
        return self._embedder.fingerprint

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 embeddings. Raises TypeError naming an element that is not str."""
        return self._embedder.embed(texts)

    def stored(self) -> Stored:
        """Return a manifest entry, and neither tensors nor files."""
        return identity_of(self, kind="shipped", settings=_SHIPPED_SETTINGS), {}, {}

    def __repr__(self) -> str:
        """Name and dim."""
        return f"ShippedEmbedder(name={self.name!r}, dim={self.dim})"


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
    *,
    origin: Origin | None = None,
) -> Embedder | None:
    """Return the embedder of a router directory: the given one if it is the same, else the stored one.

    None where the router has none, or one that only its owner can make: such a router scores embeddings only. `origin`
    is where tensors and files were read from: an embedder of them pickles by it.

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
        embedder: Embedder = StaticEmbedder.from_stored(spec, tensors, files, origin=origin)
    elif spec["kind"] == "shipped":
        if spec["settings"] != _SHIPPED_SETTINGS:
            raise ArtifactFormatError(
                f"a shipped embedder has the settings {_SHIPPED_SETTINGS}, found {spec['settings']}"
            )
        embedder = StaticEmbedder.load(_SHIPPED_ROUTER).tokens_only()
    elif spec["kind"] == "openai":
        from routellm_fast.embedders.openai import OpenAIEmbedder  # most routers need none

        unknown = sorted(set(spec["settings"]) - OPENAI_SETTINGS)
        if unknown:
            raise ArtifactFormatError(
                f"the openai embedder's settings hold {', '.join(unknown)}; known are {sorted(OPENAI_SETTINGS)}"
            )
        try:
            embedder = OpenAIEmbedder(**spec["settings"])
        except (TypeError, ValueError) as error:
            raise ArtifactFormatError(f"the openai embedder's settings are not valid: {error}") from error
    elif spec["kind"] == "onnx":
        from routellm_fast.embedders.onnx import OnnxEmbedder  # most routers need none

        embedder = OnnxEmbedder.from_stored(spec, files, origin=origin)
    else:
        return None
    check_same_embedder(embedder, spec)
    return embedder


def check_same_embedder(embedder: Embedder, spec: Mapping[str, Any]) -> None:
    """Raise EmbedderMismatchError unless the embedder is the one that the entry describes."""
    for what, found in (("dim", embedder.dim), ("fingerprint", embedder.fingerprint)):
        if found != spec[what]:
            raise EmbedderMismatchError(
                f"the router was trained with the embedder {spec['name']} ({what} {spec[what]}), "
                f"but {embedder.name} has {what} {found}: its vectors mean something else. Give the original embedder."
            )


def _check_spec(spec: Mapping[str, Any]) -> None:
    types = {"kind": str, "name": str, "dim": int, "fingerprint": str, "settings": dict}
    if set(spec) != set(types) or not all(isinstance(spec[key], kind) for key, kind in types.items()):
        raise ArtifactFormatError(f"an embedder entry holds {', '.join(types)}, found {sorted(spec)}")
    if spec["kind"] not in _KINDS:
        raise ArtifactFormatError(f"unknown embedder kind {spec['kind']!r}: expected {', '.join(_KINDS)}")
