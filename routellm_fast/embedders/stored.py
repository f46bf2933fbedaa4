"""Writes embedders into router directories, and reads them back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.arrays import FloatArray
from routellm_fast.embedders.base import Embedder, Storable, Stored, checked_embedder, identity_of
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import ArtifactFormatError, EmbedderMismatchError
from routellm_fast.origin import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The settings of an OpenAI embedder that a directory may hold: never a key, no time-outs or numbers of retries.
OPENAI_SETTINGS: Final = frozenset(
    {"model", "base_url", "dim", "provider", "max_chars", "batch_size", "dimensions", "encoding_format"}
)

_KINDS: Final = ("static", "shipped", "openai", "external", "onnx")

# The only table that a directory may refer to: that of the mf router that ships, without its surface features.
_SHIPPED_ROUTER: Final = Path(__file__).parent.parent / "assets" / "mf"
_SHIPPED_SETTINGS: Final = {"router": _SHIPPED_ROUTER.name, "surface_features": []}


class ShippedEmbedder:
    """The token dimensions of the embedder that ships. A router directory holds them as a reference, not as a copy.

    The reference works as long as the package's table is the same, so use this only for routers that ship with the
    package. `restore_embedder` turns the reference into the embedder itself: a router that is loaded and saved again
    holds the table, and no longer depends on the package.
    """

    def __init__(self) -> None:
        """Read the table of the mf router that ships."""
        self._embedder = StaticEmbedder.load(_SHIPPED_ROUTER).tokens_only()

    @property
    def name(self) -> str:
        """The name of the embedder that ships."""
        return self._embedder.name

    @property
    def dim(self) -> int:
        """Number of values in a vector."""
        return self._embedder.dim

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the embedder that ships, as the vectors are the same."""
        return self._embedder.fingerprint

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 embeddings. Raises TypeError, which names the element that is not a str."""
        return self._embedder.embed(texts)

    def stored(self) -> Stored:
        """Return the manifest entry; there are no tensors and no files."""
        return identity_of(self, kind="shipped", settings=_SHIPPED_SETTINGS), {}, {}

    def __repr__(self) -> str:
        """Name and dim."""
        return f"ShippedEmbedder(name={self.name!r}, dim={self.dim})"


def store_embedder(embedder: Embedder) -> Stored:
    """Return the manifest entry, tensors and files that keep an embedder in a router directory.

    Static and ONNX embedders are stored whole, an OpenAI embedder by its settings (never its key), and a cached one as
    the embedder that it wraps. Of any other embedder only the identity is stored: whoever loads the router passes it
    again.
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
    allowed_servers: Collection[str] = (),
) -> Embedder | None:
    """Return the embedder of a router directory: the given one after a check that it is the same, else the stored one.

    The result is None where the router has no embedder, or one that the directory cannot hold and that was not given.
    Such a router scores embeddings only. `origin` is the directory that tensors and files were read from: a pickle of
    the embedder names it. `allowed_servers` is what endpoints.allowed_servers returned.

    Raises:
        UntrustedServerError: The embedder asks a server that is not allowed.
        EmbedderMismatchError: The given embedder differs in dim or fingerprint.
        ArtifactFormatError: The manifest entry breaks the format.
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
        from routellm_fast.endpoints import check_allowed

        settings = spec["settings"]
        unknown = sorted(set(settings) - OPENAI_SETTINGS)
        if unknown:
            raise ArtifactFormatError(
                f"the openai embedder's settings hold {', '.join(unknown)}; known are {sorted(OPENAI_SETTINGS)}"
            )
        try:
            # With a dim the server need not be asked for it: reading a directory opens no connection.
            openai = OpenAIEmbedder(
                **{**settings, "dim": spec["dim"] if settings.get("dim") is None else settings["dim"]}
            )
        except (TypeError, ValueError) as error:
            raise ArtifactFormatError(f"the openai embedder's settings are not valid: {error}") from error
        check_allowed(openai.server, allowed_servers)
        embedder = openai
    elif spec["kind"] == "onnx":
        from routellm_fast.embedders.onnx import OnnxEmbedder  # most routers need none

        embedder = OnnxEmbedder.from_stored(spec, files, origin=origin)
    else:
        return None
    check_same_embedder(embedder, spec)
    return embedder


def server_of_spec(spec: Mapping[str, Any] | None) -> str | None:
    """Return the address that a manifest entry's embedder asks for vectors, as it is written; None for none."""
    if spec is None or spec.get("kind") != "openai":
        return None
    settings = spec.get("settings")
    server = settings.get("base_url") if isinstance(settings, Mapping) else None
    return server if isinstance(server, str) else None


def check_same_embedder(embedder: Embedder, spec: Mapping[str, Any]) -> None:
    """Raise EmbedderMismatchError unless the embedder is the one that the entry describes."""
    checked_embedder(embedder)
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
