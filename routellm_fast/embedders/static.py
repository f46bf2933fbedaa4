"""The static embedder: it averages the vectors of a text's tokens, in compiled code."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import (
    EMBEDDER_LAYOUT,
    ROUTER_LAYOUT,
    Artifact,
    faults_of,
    is_artifact,
    read_artifact,
    write_artifact,
)
from routellm_fast.embedders.base import Stored, fingerprint_of, identity_of
from routellm_fast.embedders.model2vec import is_model2vec_folder, read_model2vec
from routellm_fast.errors import ArtifactFormatError, ArtifactNotFoundError, InvalidArgumentError
from routellm_fast.memory import enough_memory
from routellm_fast.origin import Origin
from routellm_fast.texts import check_texts
from routellm_fast.tokenization import (
    LibraryTokenizer,
    native_tokenizer,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOKENIZER_FILE = "tokenizer.json"
# All that a static embedder can say of a text beside its words; `docs/artifact-format.md` defines each.
SURFACE_FEATURES = tuple(_core.surface_feature_names())
_TENSOR_PREFIX = "embedder."
_MOST = 1 << 53
_BLANK = re.compile("[ \t\r\n]")


class StaticEmbedder:
    """Embeds a text as the mean of its token vectors, followed by its surface features. Immutable and thread-safe.

    No neural network runs: each token costs the read of one row of a table. At most `max_tokens` tokens and
    `max_code_points` characters of a text are read, so that ten megabytes cost no more than a long prompt: the first
    ones, or with `tail_tokens` some of the start and some of the end, where a long prompt often has its question. Lone
    surrogates and invalid sequences count as U+FFFD, which BERT's normalizer drops. The token dimensions of a text
    without tokens are zero.

    A pickle names the directory that the embedder was loaded from, where this package wrote that directory, and reads
    it again on the other side: it must not have changed. Otherwise the pickle carries the table. A deep copy is the
    embedder itself.

    Source: model2vec's StaticModel.encode for the token dimensions.
    """

    def __init__(
        self,
        table: NDArray[Any],
        tokenizer_json: bytes,
        *,
        name: str,
        column_scale: NDArray[np.float32] | None = None,
        rows: NDArray[np.uint32] | None = None,
        weights: NDArray[np.float32] | None = None,
        max_tokens: int = 512,
        max_code_points: int = 64 * 512,
        tail_tokens: int = 0,
        normalize: bool = True,
        surface_features: Sequence[str] = (),
        isa: str | None = None,
    ) -> None:
        """Build from parts; `load` reads them from a directory.

        Args:
            table: (rows, dim), float16 or float32, or int8 together with column_scale.
            tokenizer_json: Bytes of a tokenizer.json in Hugging Face's format. BERT's WordPiece runs in compiled code;
                any other tokenizer needs the extra `tokenizers`.
            name: A name for people.
            column_scale: (dim,) float32: the factor of each column of an int8 table.
            rows: (tokens,) uint32: the table's row for each token; None where token i has row i.
            weights: (tokens,) float32: the weight of each token; None where all weigh 1.
            max_tokens: How many tokens of a text are read, >= 1.
            max_code_points: How many characters of a text are read, >= 1.
            tail_tokens: How many of max_tokens are for the end of a text that has more, from 0 to max_tokens - 1. The
                same part of max_code_points is for the end too. The feature log_tokens then means the whole text: its
                tokens are counted where it was read, and for the rest estimated by its length in bytes. With 0 the
                start is read, and log_tokens means what was read.
            normalize: Whether the mean is scaled to unit length.
            surface_features: Names of the dimensions after the token dimensions, out of those that
                `docs/artifact-format.md` lists, such as constant and log_tokens. An unknown name raises an error that
                lists them.
            isa: Instruction set of the kernels, for tests; None for the one in use.

        Raises:
            InvalidArgumentError: The parts do not fit together, or a surface feature is unknown.
            ArtifactFormatError: tokenizer.json is damaged.
            MissingExtraError: The tokenizer needs a library that is not installed.
        """
        max_tokens = _count("max_tokens", max_tokens, 1)
        max_code_points = _count("max_code_points", max_code_points, 1)
        tail_tokens = _count("tail_tokens", tail_tokens, 0)
        if not isinstance(normalize, (bool, np.bool_)):
            raise TypeError(f"normalize must be a bool, found {normalize!r}")
        normalize = bool(normalize)
        native, unknown_token = native_tokenizer(tokenizer_json)
        self._library = None if native is not None else LibraryTokenizer(tokenizer_json)
        self._origin: Origin | None = None
        self._name = name
        self._tokenizer_json = tokenizer_json
        self._column_scale, self._rows, self._weights = column_scale, rows, weights
        self._settings: dict[str, Any] = {
            "max_tokens": max_tokens,
            "max_code_points": max_code_points,
            "normalize": normalize,
            "surface_features": list(surface_features),
            **({"tail_tokens": tail_tokens} if tail_tokens else {}),  # embedders without it stay as they were
        }
        try:
            self._native = _core.StaticEmbedder(
                native,
                np.ascontiguousarray(table, dtype=None if table.dtype == np.int8 else np.float32),
                column_scale=column_scale,
                rows=rows,
                weights=weights,
                dropped_token=unknown_token,
                isa=isa,
                **self._settings,
            )
        except TypeError:  # whose text speaks of the core's own signature
            raise TypeError(
                "a static embedder takes integers of at least 1 for max_tokens and max_code_points, of at least 0 for "
                "tail_tokens, a bool for normalize, names for surface_features, and arrays of numbers for "
                f"column_scale, rows and weights; found {self._settings}, column_scale {_type_of(column_scale)}, "
                f"rows {_type_of(rows)}, weights {_type_of(weights)}"
            ) from None

    @classmethod
    def load(cls, directory: str | Path, *, isa: str | None = None) -> StaticEmbedder:
        """Read a model2vec folder, an embedder directory, or the static embedder inside a router directory.

        Raises:
            ArtifactError: The directory is missing, damaged, of a newer format, or holds another embedder; the subclass
                says which.
        """
        path = Path(directory)
        for layout in (EMBEDDER_LAYOUT, ROUTER_LAYOUT):
            if is_artifact(path, layout):
                artifact = read_artifact(path, layout)
                spec = artifact.manifest["embedder"]
                if spec is None:
                    raise ArtifactFormatError(f"{path} holds a router without an embedder")
                origin = Origin.of(path, layout, artifact)
                with faults_of(path):
                    return cls.from_stored(spec, artifact.tensors, artifact.files, origin=origin, isa=isa)
        if not is_model2vec_folder(path):
            raise ArtifactNotFoundError(
                f"{path} is neither a model2vec folder (config.json, model.safetensors, tokenizer.json) "
                "nor a directory saved by routellm-fast (embedder.json or router.json)"
            )
        return cls.from_model2vec(path, isa=isa)

    @classmethod
    def from_model2vec(
        cls, directory: str | Path, *, surface_features: Sequence[str] = (), isa: str | None = None
    ) -> StaticEmbedder:
        """Read a folder that model2vec wrote, such as a Potion model.

        Raises:
            ArtifactNotFoundError: The directory lacks a file that a model2vec folder has.
            ArtifactFormatError: A file is damaged, or a tensor is missing.
        """
        path = Path(directory)
        with enough_memory(path):
            return cls._of_model2vec(path, surface_features, isa)

    @classmethod
    def _of_model2vec(cls, path: Path, surface_features: Sequence[str], isa: str | None) -> StaticEmbedder:
        folder = read_model2vec(path)
        table, scale = folder.table, None
        if table.dtype == np.int8:
            # model2vec ignores the scale of its int8 tables and averages the integers; this embedder does the same.
            if folder.rows is None and folder.weights is None:
                scale = np.ones(table.shape[1], dtype=np.float32)
            else:
                table = table.astype(np.float32)
        return cls(
            table,
            folder.tokenizer_json,
            name=f"static:{path.resolve().name}",
            column_scale=scale,
            rows=folder.rows,
            weights=folder.weights,
            max_tokens=folder.max_tokens,
            max_code_points=folder.max_code_points,
            normalize=folder.normalize,
            surface_features=surface_features,
            isa=isa,
        )

    @classmethod
    def from_stored(
        cls,
        spec: Mapping[str, Any],
        tensors: Mapping[str, NDArray[Any]],
        files: Mapping[str, bytes],
        *,
        origin: Origin | None = None,
        isa: str | None = None,
    ) -> StaticEmbedder:
        """Build from what `stored` wrote. Raises ArtifactFormatError when parts are missing or do not fit.

        Args:
            spec: The manifest's entry.
            tensors: The directory's tensors.
            files: The directory's files.
            origin: The directory itself.
            isa: See the constructor.
        """
        if spec.get("kind") != "static":
            raise ArtifactFormatError(f"the embedder is of kind {spec.get('kind')!r}, not 'static'")
        own: dict[str, Any] = {
            name.removeprefix(_TENSOR_PREFIX): array
            for name, array in tensors.items()
            if name.startswith(_TENSOR_PREFIX)
        }
        # The core copies the table; what else is kept must not keep the whole file's memory.
        own |= {name: array.copy() for name, array in own.items() if name != "table"}
        table, settings = own.pop("table", None), spec.get("settings")
        if isinstance(settings, dict) and settings.get("tail_tokens") == 0:
            raise ArtifactFormatError("the static embedder's tail_tokens must be an integer from 1 on, or left out")
        if table is None or TOKENIZER_FILE not in files or not isinstance(settings, dict):
            raise ArtifactFormatError(
                "a static embedder needs the tensor embedder.table, the file tokenizer.json, and settings"
            )
        try:
            embedder = cls(table, files[TOKENIZER_FILE], name=spec["name"], isa=isa, **own, **settings)
        except (InvalidArgumentError, KeyError, TypeError) as error:
            raise ArtifactFormatError(f"the static embedder's parts do not fit together: {error}") from error
        if embedder.dim != spec.get("dim"):
            raise ArtifactFormatError(
                f"the static embedder has {embedder.dim} dimensions, the manifest says {spec.get('dim')}"
            )
        embedder._origin = origin
        return embedder

    def stored(self) -> Stored:
        """Return the manifest entry, tensors and files from which `from_stored` builds an equal embedder."""
        optional = {"column_scale": self._column_scale, "rows": self._rows, "weights": self._weights}
        tensors: dict[str, NDArray[Any]] = {f"{_TENSOR_PREFIX}table": self.table}
        tensors |= {f"{_TENSOR_PREFIX}{key}": array for key, array in optional.items() if array is not None}
        return (
            identity_of(self, kind="static", settings=self._settings),
            tensors,
            {TOKENIZER_FILE: self._tokenizer_json},
        )

    def save(self, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> str:
        """Write an embedder directory in one step, and return its digest, "sha256:<hex>".

        Raises ArtifactWriteError, and then nothing has changed.
        """
        spec, tensors, files = self.stored()
        manifest = {"embedder": spec, "provenance": dict(provenance or {})}
        return write_artifact(path, Artifact(manifest, tensors, files), EMBEDDER_LAYOUT)

    def replace(
        self,
        *,
        normalize: bool | None = None,
        surface_features: Sequence[str] | None = None,
        tail_tokens: int | None = None,
        name: str | None = None,
    ) -> StaticEmbedder:
        """Return an embedder with the same token vectors and other settings; None keeps a setting."""
        given = {
            "normalize": normalize,
            "surface_features": None if surface_features is None else list(surface_features),
            "tail_tokens": tail_tokens,
        }
        settings = self._settings | {key: value for key, value in given.items() if value is not None}
        return StaticEmbedder(
            self.table,
            self._tokenizer_json,
            name=name or self.name,
            column_scale=self._column_scale,
            rows=self._rows,
            weights=self._weights,
            **settings,
        )

    def tokens_only(self) -> StaticEmbedder:
        """Return an embedder without surface features, for uses that compare embeddings by their cosine.

        Surface features are on another scale than token dimensions: a constant of 1 beside values of about 0.01 gives
        all texts a cosine near 1.
        """
        return self.replace(surface_features=(), name=f"{self.name}-tokens") if self.surface_features else self

    def quantize(self) -> StaticEmbedder:
        """Return an embedder with an int8 table, a quarter of the size of float32. Each column has its own scale."""
        if self.table.dtype == np.int8:
            return self
        dense = self.table if self._rows is None else self.table[self._rows]
        if self._weights is not None:
            dense = dense * self._weights[:, None]
        largest = np.abs(dense).max(axis=0)
        scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
        return StaticEmbedder(
            np.rint(dense / scale).astype(np.int8),
            self._tokenizer_json,
            name=self.name,
            column_scale=scale,
            **self._settings,
        )

    @property
    def name(self) -> str:
        """The name that was given."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of values in a vector: token dimensions and surface features."""
        return self._native.dim

    @property
    def surface_features(self) -> tuple[str, ...]:
        """Names of the surface features, which are the last dimensions."""
        return tuple(self._settings["surface_features"])

    @property
    def table(self) -> NDArray[Any]:
        """The token vectors: (rows, token dimensions) float32 or int8, a read-only view of the table in use."""
        return self._native.table

    @property
    def native(self) -> _core.StaticEmbedder | None:
        """The compiled embedder, which scorers can join with; None where the tokenizer runs in Python's library."""
        return self._native if self._library is None else None

    @cached_property
    def fingerprint(self) -> str:
        """Identity of table, tokenizer and settings."""
        arrays = (self.table, self._column_scale, self._rows, self._weights)
        contents = [array.data.cast("B") for array in arrays if array is not None]
        return fingerprint_of({"kind": "static", **self._settings}, self._tokenizer_json, *contents)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 embeddings. Raises TypeError, which names the element that is not a str."""
        if self._library is None:
            return self._native.embed(texts)
        found = self._found_by_library(self._library, texts)
        return self._native.embed_ids([one.ids for one in found], [one.token_count for one in found], texts)

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether `embed` reads all of it."""
        if self._library is None:
            found: list[bool] = self._native.reads_whole(texts).tolist()
            return found
        return [one.is_whole for one in self._found_by_library(self._library, texts)]

    def token_ids(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """Return the ids of the tokens that are read of each text, unknown ones among them."""
        if self._library is None:
            return self._native.token_ids(texts)
        return [np.array(one.ids, dtype=np.uint32) for one in self._found_by_library(self._library, texts)]

    def _found_by_library(self, library: LibraryTokenizer, texts: Sequence[str]) -> list[_Found]:
        most = self._settings["max_tokens"]
        characters, of_tail = self._native.max_code_points, self._native.tail_code_points
        tail = self._settings.get("tail_tokens", 0) if of_tail else 0  # too small a share of the characters for one
        # What is read of each text: all of it, its start, or its two ends.
        parts = [
            (text,)
            if len(text) <= characters
            else (text[: characters - of_tail], *([_from_a_word_on(text[-of_tail:])] if of_tail else []))
            for text in check_texts(texts)
        ]
        ids = iter(library.encode([part for text in parts for part in text]))
        found = []
        for text, read in zip(texts, parts, strict=True):
            lists = [next(ids) for _ in read]
            count = sum(map(len, lists))
            is_all = len(text) <= characters
            if not tail:
                found.append(_Found(lists[0][:most], min(count, most), is_all and count <= most))
            elif is_all and count <= most:
                found.append(_Found(lists[0], count, True))
            else:
                share = _utf8_bytes(text) / max(sum(map(_utf8_bytes, read)), 1)
                found.append(_Found(lists[0][: most - tail] + lists[-1][-tail:], round(count * share), False))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is not None:
            return _reloaded, (self._origin,)
        columns = {"column_scale": self._column_scale, "rows": self._rows, "weights": self._weights}
        return _rebuilt, (self.table, self._tokenizer_json, {"name": self._name, **columns, **self._settings})

    def __copy__(self) -> StaticEmbedder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> StaticEmbedder:
        return self

    def __repr__(self) -> str:
        """Name, dim and the table's precision."""
        return f"StaticEmbedder(name={self._name!r}, dim={self.dim}, precision={self.table.dtype.name!r})"


class _Found(NamedTuple):
    """What a library found in a text: the tokens that are pooled, how many the text has, and whether these are all."""

    ids: list[int]
    token_count: int
    is_whole: bool


def _count(name: str, value: int, least: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, found {value!r}")
    count = operator.index(value)
    if not least <= count <= _MOST:
        raise InvalidArgumentError(f"{name} must be an integer from {least} to 2^53, found {count}")
    return count


def _from_a_word_on(text: str) -> str:
    blank = _BLANK.search(text)
    return text if blank is None else text[blank.start() :]


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _type_of(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _reloaded(origin: Origin) -> StaticEmbedder:
    artifact = origin.read()
    return StaticEmbedder.from_stored(artifact.manifest["embedder"], artifact.tensors, artifact.files, origin=origin)


def _rebuilt(table: NDArray[Any], tokenizer_json: bytes, parts: dict[str, Any]) -> StaticEmbedder:
    return StaticEmbedder(table, tokenizer_json, **parts)
