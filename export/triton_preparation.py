"""From prompts to what an exported graph reads, inside Triton: the first step of an ensemble, without the router.

Lengths are padded to a few sizes, so that requests of one size meet in a batch of the graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.artifact import EMBEDDER_LAYOUT, Artifact, read_artifact, write_artifact
from routellm_fast.embedders.onnx import OnnxEmbedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.embedders.stored import restore_embedder, store_embedder
from routellm_fast.endpoints import allowed_servers
from routellm_fast.errors import (
    ArtifactError,
    ArtifactFormatError,
    EmbedderUnavailableError,
    InvalidArgumentError,
    InvalidEmbeddingError,
)
from routellm_fast.extras import require
from routellm_fast.json_file import read_json_object
from routellm_fast.onnx.tokens import TokenEncoder
from routellm_fast.routers.bert import BertRouter
from routellm_fast.routers.causal.prompt import PromptFormat
from routellm_fast.routers.causal.router import CausalLLMRouter
from routellm_fast.routers.causal.tokens import PromptRows, TextTokens
from routellm_fast.serving.triton_backend import RequestModel, Settings
from routellm_fast.serving.triton_protocol import ALLOW_SERVER, EMBEDDING, PROMPT

from ._exportable import Exportable
from ._scorer_graphs import EMBEDDINGS
from ._static_graph import ATTENTION_MASK, INPUT_IDS, StaticParts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.embedders.base import Embedder

PREPARATION_FOLDER: Final = "preparation"
_FILE: Final = "preparation.json"
_TOKENIZER: Final = "tokenizer.json"
_EMBEDDER: Final = "embedder"
_VERSION: Final = 1

Feeds = dict[str, "NDArray[Any]"]


def embedder_of(native: Exportable) -> Embedder | None:
    """Return a router's embedder, None where it has none that a server could make again."""
    try:
        embedder = native.router.embedder
    except EmbedderUnavailableError:
        return None
    return None if store_embedder(embedder)[0]["kind"] == "external" else embedder


def longest_of(native: Exportable) -> int:
    """Return the most tokens that a graph is given of a prompt; 1 where it reads no tokens."""
    router: Any = native.router
    if EMBEDDINGS in native.widths:
        return 1
    if isinstance(router, CausalLLMRouter):
        return router.scoring.max_tokens
    if isinstance(router, BertRouter):
        return router.max_tokens
    longest: int = store_embedder(router.embedder)[0]["settings"]["max_tokens"]
    return longest


def write_preparation(native: Exportable, folder: Path, lengths: Sequence[int]) -> None:
    """Write what `Preparation` reads.

    Args:
        native: The router, and what its graph reads.
        folder: Made.
        lengths: Numbers of tokens that are padded to, rising; the last is that of the longest prompt.
    """
    folder.mkdir(parents=True)
    router: Any = native.router
    settings: dict[str, Any]
    if isinstance(router, CausalLLMRouter):
        scoring = router.scoring
        settings = {
            "reads": "causal_llm",
            "prompt": asdict(router.prompt_format),
            "score_tokens": list(scoring.score_tokens),
            "max_tokens": scoring.max_tokens,
            "truncation": scoring.truncation,
        }
        (folder / _TOKENIZER).write_bytes(router.model.tokenizer.to_str().encode())
    elif EMBEDDINGS in native.widths:
        embedder = embedder_of(native)
        settings = {"reads": "embeddings", "dim": router.dim, "has_embedder": embedder is not None}
        if embedder is not None:
            _write_embedder(embedder, folder / _EMBEDDER)
    elif isinstance(router, BertRouter):
        settings = {"reads": "transformer", "max_tokens": router.max_tokens, "pad_id": router.pad_id}
        (folder / _TOKENIZER).write_bytes(router.tokenizer_json)
    elif isinstance(router.embedder, OnnxEmbedder):
        entry, _, files = router.embedder.stored()
        settings = {"reads": "transformer", **entry["settings"]}
        (folder / _TOKENIZER).write_bytes(files[_TOKENIZER])
    else:
        settings = {"reads": "static"}
        _write_embedder(router.embedder, folder / _EMBEDDER)
    content = {"format_version": _VERSION, "lengths": list(lengths), **settings}
    (folder / _FILE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


class Preparation:
    """Makes a graph's inputs of prompts or embeddings. Immutable and thread-safe."""

    def __init__(self, folder: Path, *, allow_server: str | None = None) -> None:
        """Read what write_preparation wrote.

        Args:
            folder: Where it lies.
            allow_server: The server that the router's embedder may ask; see load_router.

        Raises:
            ArtifactError: It is missing, damaged or of a newer version.
            MissingExtraError: The tokenizer needs an extra.
        """
        self._allowed_servers = allowed_servers(allow_server)
        try:
            settings = read_json_object(folder / _FILE)
            if settings["format_version"] != _VERSION:
                raise ArtifactFormatError(
                    f"{folder} is of format {settings['format_version']}, this version reads {_VERSION}"
                )
            self._lengths: list[int] = settings["lengths"]
            self.dim: int | None = settings.get("dim")
            self._feeds = self._reader(settings, folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactFormatError(
                f"{folder} is no preparation of a graph ({error!r}): export the router again"
            ) from error

    def feeds(self, prompts: Sequence[str]) -> Feeds:
        """Return the graph's inputs for prompts, padded to one of the lengths."""
        return self._feeds(prompts)

    def _reader(self, settings: Mapping[str, Any], folder: Path) -> Callable[[Sequence[str]], Feeds]:
        reads = settings["reads"]
        if reads == "embeddings":
            embedder = self._embedder(folder / _EMBEDDER) if settings["has_embedder"] else None
            if embedder is None:
                return _no_embedder
            return lambda prompts: {EMBEDDINGS: embedder.embed(prompts)}
        if reads == "static":
            static = self._embedder(folder / _EMBEDDER)
            if not isinstance(static, StaticEmbedder):
                raise ArtifactFormatError(f"{folder / _EMBEDDER} holds no static embedder")
            parts = StaticParts.of(static)
            return lambda prompts: self._lengthened(parts.feeds(prompts))
        tokenizer = (folder / _TOKENIZER).read_bytes()
        if reads == "transformer":
            tokens, pad_id = TokenEncoder(tokenizer, settings["max_tokens"]), settings["pad_id"]
            return lambda prompts: self._padded(tokens.encode(prompts), pad_id, on_the_left=False)
        if reads != "causal_llm":
            raise ArtifactFormatError(f"{folder} is for graphs that read {reads!r}, which this version does not know")
        rows = PromptRows(
            TextTokens(require("tokenizers", "tokenizers").Tokenizer.from_buffer(tokenizer)),
            PromptFormat(**settings["prompt"]),
            score_tokens=settings["score_tokens"],
            max_tokens=settings["max_tokens"],
            truncation=settings["truncation"],
        )
        return lambda prompts: self._padded(rows.rows(prompts), 0, on_the_left=True)

    def _embedder(self, folder: Path) -> Embedder | None:
        artifact = read_artifact(folder, EMBEDDER_LAYOUT)
        return restore_embedder(
            artifact.manifest["embedder"],
            artifact.tensors,
            artifact.files,
            None,
            allowed_servers=self._allowed_servers,
        )

    def _bucket(self, count: int) -> int:
        return next((length for length in self._lengths if length >= count), self._lengths[-1])

    def _lengthened(self, feeds: Feeds) -> Feeds:
        count, longest = feeds[INPUT_IDS].shape
        for name in (INPUT_IDS, ATTENTION_MASK):
            wider = np.zeros((count, self._bucket(longest)), np.int64)
            wider[:, :longest] = feeds[name]
            feeds[name] = wider
        return feeds

    def _padded(self, rows: Sequence[Sequence[int]], pad_id: int, *, on_the_left: bool) -> Feeds:
        length = self._bucket(max(map(len, rows), default=0))
        ids = np.full((len(rows), length), pad_id, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for index, row in enumerate(rows):
            place = slice(length - len(row), length) if on_the_left else slice(len(row))
            ids[index, place] = row
            mask[index, place] = 1
        return {INPUT_IDS: ids, ATTENTION_MASK: mask}


class PreparationModel(RequestModel):
    """The first step of an ensemble: prompts or embeddings in, the graph's inputs out."""

    def load(self, settings: Settings) -> None:
        """Read the preparation in the model's version folder."""
        self._preparation = Preparation(
            settings.folder / PREPARATION_FOLDER, allow_server=settings.parameters.get(ALLOW_SERVER)
        )

    def read(self, request: Any) -> Feeds:
        """Return the graph's inputs of one request; the lengths of others are none of its business."""
        prompts, embeddings = self.prompts(request), self.tensor(request, EMBEDDING)
        if (prompts is None) == (embeddings is None):
            raise InvalidArgumentError(
                f"a request holds either {PROMPT} or {EMBEDDING}, found {'neither' if prompts is None else 'both'}"
            )
        if embeddings is None:
            return self._preparation.feeds(prompts or [])
        if not np.isfinite(embeddings).all():
            row, column = np.argwhere(~np.isfinite(embeddings))[0]
            raise InvalidEmbeddingError(
                f"{EMBEDDING}: row {row}, column {column} is {embeddings[row, column]}: expected finite values"
            )
        return {EMBEDDINGS: np.ascontiguousarray(embeddings, dtype=np.float32)}

    def answer(self, contents: Sequence[Feeds]) -> list[Feeds]:
        """Hand them on."""
        return list(contents)


def _no_embedder(_prompts: Sequence[str]) -> Feeds:
    raise InvalidArgumentError(f"the router has no embedder: send {EMBEDDING}")


def _write_embedder(embedder: Embedder, folder: Path) -> None:
    spec, tensors, files = store_embedder(embedder)
    write_artifact(folder, Artifact({"embedder": spec, "provenance": {}}, tensors, files), EMBEDDER_LAYOUT)
