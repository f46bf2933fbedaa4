"""An embedder that runs a transformer encoder: one ONNX graph from token ids to pooled vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

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
from routellm_fast.errors import ArtifactFormatError, ArtifactNotFoundError, InvalidArgumentError, OnnxModelError
from routellm_fast.memory import enough_memory
from routellm_fast.onnx import OnnxSession, SessionOptions
from routellm_fast.onnx.text_graph import TextGraph, check_text_settings
from routellm_fast.origin import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODER_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
OUTPUT: Final = "embedding"


class OnnxEmbedder:
    """A sentence encoder such as all-MiniLM-L6-v2, on ONNX Runtime. Immutable and thread-safe.

    The graph includes pooling and, where the model has it, scaling to unit length. On the CPU a vector has the same
    bits whatever else is in the batch. Needs the extra `onnx`. To `load` a folder that transformers wrote also takes
    the extra `transformers`, since torch exports the graph; an embedder that was saved once is loaded without it.

    A pickle names the directory that the embedder was loaded from, where this package wrote that directory, and reads
    it again on the other side: it must not have changed. Otherwise the pickle carries the graph. A deep copy is the
    embedder itself.
    """

    def __init__(
        self,
        model: bytes,
        tokenizer_json: bytes,
        *,
        name: str,
        max_tokens: int,
        pad_id: int,
        options: SessionOptions | None = None,
    ) -> None:
        """Build from parts; `load` reads them from a directory.

        Args:
            model: ONNX graph from int64 `input_ids` and `attention_mask`, both (texts, tokens), to float32 `embedding`
                (texts, dim).
            tokenizer_json: Bytes of the model's tokenizer.json.
            name: A name for people.
            max_tokens: The most tokens of a text that are read, special tokens included; the rest is cut off.
            pad_id: Id of the token that fills up shorter texts.
            options: Device and number of threads; None for the defaults.

        Raises:
            OnnxModelError: The graph is damaged, or has other inputs or outputs.
            InvalidArgumentError: The name is empty, or the parts do not fit together.
            ProviderUnavailableError: ONNX Runtime cannot use the device.
            MissingExtraError: onnxruntime is not installed, or tokenizers where the tokenizer needs it.
        """
        if not name:
            raise InvalidArgumentError("name must not be empty")
        self._model, self._tokenizer_json, self._name = model, tokenizer_json, name
        self._settings = {"max_tokens": max_tokens, "pad_id": pad_id}
        self._options = options
        self._origin: Origin | None = None
        self._graph = TextGraph(
            model, tokenizer_json, output=OUTPUT, output_rank=2, max_tokens=max_tokens, pad_id=pad_id, options=options
        )
        width = self._graph.width
        if type(width) is not int or width < 1:
            raise OnnxModelError(f"the graph's {OUTPUT} has no fixed width, found {width!r}")
        self._dim = width

    @classmethod
    def load(cls, directory: str | Path, *, options: SessionOptions | None = None) -> OnnxEmbedder:
        """Read an encoder folder of transformers or sentence-transformers, or a directory saved by this class.

        A router directory that holds such an embedder is read too.

        Raises:
            ArtifactError: The directory is missing, damaged, of a newer format, or holds another embedder; the subclass
                says which.
            MissingExtraError: onnxruntime is not installed, or torch where the folder must be exported.
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
                    return cls.from_stored(spec, artifact.files, options=options, origin=origin)
        if not path.is_dir():
            raise ArtifactNotFoundError(
                f"{path} is no directory: expected an encoder folder, or one saved by routellm-fast"
            )
        from routellm_fast.onnx.encoder import export_encoder  # torch

        with enough_memory(path):
            made = export_encoder(path)
        return cls(
            made.model,
            made.tokenizer_json,
            name=f"onnx:{path.resolve().name}",
            max_tokens=made.max_tokens,
            pad_id=made.pad_id,
            options=options,
        )

    @classmethod
    def from_stored(
        cls,
        spec: Mapping[str, Any],
        files: Mapping[str, bytes],
        *,
        options: SessionOptions | None = None,
        origin: Origin | None = None,
    ) -> OnnxEmbedder:
        """Build from what `stored` wrote. Raises ArtifactFormatError when parts are missing or do not fit.

        Args:
            spec: The manifest's entry.
            files: The directory's files.
            options: See the constructor.
            origin: The directory itself.
        """
        if spec.get("kind") != "onnx":
            raise ArtifactFormatError(f"the embedder is of kind {spec.get('kind')!r}, not 'onnx'")
        check_text_settings(spec.get("settings"), "an onnx embedder")
        missing = [name for name in (ENCODER_FILE, TOKENIZER_FILE) if name not in files]
        if missing:
            raise ArtifactFormatError(
                f"an onnx embedder needs the files {ENCODER_FILE} and {TOKENIZER_FILE}; missing {missing[0]}"
            )
        try:
            embedder = cls(
                files[ENCODER_FILE], files[TOKENIZER_FILE], name=spec["name"], options=options, **spec["settings"]
            )
        except (InvalidArgumentError, KeyError, TypeError) as error:
            raise ArtifactFormatError(f"the onnx embedder's parts do not fit together: {error}") from error
        if embedder.dim != spec.get("dim"):
            raise ArtifactFormatError(
                f"the onnx embedder has {embedder.dim} dimensions, the manifest says {spec.get('dim')}"
            )
        embedder._origin = origin
        return embedder

    def stored(self) -> Stored:
        """Return the manifest entry, tensors and files from which `from_stored` builds an equal embedder."""
        tensors: dict[str, NDArray[Any]] = {}
        files = {ENCODER_FILE: self._model, TOKENIZER_FILE: self._tokenizer_json}
        return identity_of(self, kind="onnx", settings=self._settings), tensors, files

    def save(self, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> str:
        """Write an embedder directory in one step, and return its digest, "sha256:<hex>".

        Raises ArtifactWriteError, and then nothing has changed.
        """
        spec, tensors, files = self.stored()
        manifest = {"embedder": spec, "provenance": dict(provenance or {})}
        return write_artifact(path, Artifact(manifest, tensors, files), EMBEDDER_LAYOUT)

    @property
    def name(self) -> str:
        """The name that was given."""
        return self._name

    @property
    def dim(self) -> int:
        """Number of values in a vector."""
        return self._dim

    @property
    def session(self) -> OnnxSession:
        """The session of ONNX Runtime that runs the graph."""
        return self._graph.session

    @property
    def text_graph(self) -> TextGraph:
        """The graph with its tokenizer and the lengths to which texts are padded."""
        return self._graph

    @property
    def model(self) -> bytes:
        """The bytes of the ONNX graph."""
        return self._model

    @cached_property
    def fingerprint(self) -> str:
        """Identity of graph, tokenizer and settings. Versions of torch may export one folder to different graphs."""
        return fingerprint_of({"kind": "onnx", **self._settings}, self._tokenizer_json, self._model)

    def reads_whole(self, texts: Sequence[str]) -> list[bool]:
        """Return of each text whether `embed` reads all of it."""
        return self._graph.tokens.reads_whole(texts)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 embeddings. Raises TypeError, which names the element that is not a str."""
        rows = self._graph.run(texts)
        return np.stack(rows) if rows else np.empty((0, self._dim), dtype=np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is not None:
            return _reloaded, (self._origin, self._options)
        parts = {"name": self._name, "options": self._options, **self._settings}
        return _rebuilt, (self._model, self._tokenizer_json, parts)

    def __copy__(self) -> OnnxEmbedder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxEmbedder:
        return self

    def __repr__(self) -> str:
        """Name and dim."""
        return f"OnnxEmbedder(name={self._name!r}, dim={self._dim})"


def _reloaded(origin: Origin, options: SessionOptions | None) -> OnnxEmbedder:
    artifact = origin.read()
    return OnnxEmbedder.from_stored(artifact.manifest["embedder"], artifact.files, options=options, origin=origin)


def _rebuilt(model: bytes, tokenizer_json: bytes, parts: dict[str, Any]) -> OnnxEmbedder:
    return OnnxEmbedder(model, tokenizer_json, **parts)
