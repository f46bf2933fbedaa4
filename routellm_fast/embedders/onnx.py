"""Transformer encoders as embedders: token ids to pooled vectors in one ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import EMBEDDER_LAYOUT, ROUTER_LAYOUT, Artifact, is_artifact, read_artifact, write_artifact
from routellm_fast.embedders.base import Stored, fingerprint_of, identity_of
from routellm_fast.errors import ArtifactFormatError, ArtifactNotFoundError, InvalidArgumentError, OnnxModelError
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

    Pooling, and scaling to unit length where the model has it, are in the graph. On the CPU a vector has the same bits
    whatever else is in the batch. Needs the extra `onnx`; `load` of a folder that transformers wrote also needs
    `transformers`, since torch exports it: save the embedder to spare later starts that.

    Pickled, it is read again on the other side from the directory that this package had written and it was loaded from;
    the directory must not have changed. Any other carries its graph. A deep copy is the embedder itself.
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
            model: ONNX, from int64 `input_ids` and `attention_mask` (texts, tokens) to float32 `embedding` (texts,
                dim).
            tokenizer_json: The tokenizer.json of the model.
            name: A readable name.
            max_tokens: Most tokens of a text, special ones included; longer texts are cut there.
            pad_id: Id of the token that shorter texts are padded with.
            options: Device and threads.

        Raises:
            OnnxModelError: The graph is damaged, or another one.
            InvalidArgumentError: Parts do not fit together.
            ProviderUnavailableError: The device is not there.
            MissingExtraError: onnxruntime is not installed, or tokenizers where it is needed.
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

        The latter may be a router directory that holds such an embedder.

        Raises:
            ArtifactError: See its subclasses: missing, newer, damaged, or not such an embedder.
            MissingExtraError: onnxruntime is not installed, or torch where the folder must be exported.
        """
        path = Path(directory)
        for layout in (EMBEDDER_LAYOUT, ROUTER_LAYOUT):
            if is_artifact(path, layout):
                artifact = read_artifact(path, layout)
                spec = artifact.manifest["embedder"]
                if spec is None:
                    raise ArtifactFormatError(f"{path} holds a router without an embedder")
                return cls.from_stored(spec, artifact.files, options=options, origin=Origin.of(path, layout, artifact))
        if not path.is_dir():
            raise ArtifactNotFoundError(
                f"{path} is no directory: expected an encoder folder, or one saved by routellm-fast"
            )
        from routellm_fast.onnx.encoder import export_encoder  # torch

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
        """Return manifest entry, tensors and files, from which from_stored builds an equal embedder."""
        tensors: dict[str, NDArray[Any]] = {}
        files = {ENCODER_FILE: self._model, TOKENIZER_FILE: self._tokenizer_json}
        return identity_of(self, kind="onnx", settings=self._settings), tensors, files

    def save(self, path: str | Path, *, provenance: Mapping[str, Any] | None = None) -> None:
        """Write an embedder directory, whole or not at all. Raises ArtifactWriteError."""
        spec, tensors, files = self.stored()
        manifest = {"embedder": spec, "provenance": dict(provenance or {})}
        write_artifact(path, Artifact(manifest, tensors, files), EMBEDDER_LAYOUT)

    @property
    def name(self) -> str:
        """A readable name."""
        return self._name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    @property
    def session(self) -> OnnxSession:
        """What runs the graph."""
        return self._graph.session

    @property
    def text_graph(self) -> TextGraph:
        """The graph with its tokenizer and buckets."""
        return self._graph

    @property
    def model(self) -> bytes:
        """The ONNX graph."""
        return self._model

    @cached_property
    def fingerprint(self) -> str:
        """Identity of graph, tokenizer and settings. Another version of torch may export a folder to another graph."""
        return fingerprint_of({"kind": "onnx", **self._settings}, self._tokenizer_json, self._model)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 embeddings. Raises TypeError naming an element that is not str."""
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
