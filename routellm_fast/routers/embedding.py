"""Routers that score vectors: the kinds that the compiled core runs."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from routellm_fast import _core
from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import FORMAT_VERSION, Artifact
from routellm_fast.decision import Decision, ModelPair, NoText, basis_of, check_no_text, decide
from routellm_fast.embedders.base import Embedder, KnowsExcerpts
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.embedders.vectors import check_vectors
from routellm_fast.errors import EmbedderMismatchError
from routellm_fast.routers.base import Router
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbeddingRouter(Router):
    """Win rates of embeddings: a prompt's vector, made by an embedder or given, is all that is scored.

    The native router does the scoring, as it does for C and for Triton. Where the embedder is a StaticEmbedder whose
    tokenizer runs natively, text goes to win rate in one call of the core.
    """

    _native: _core.Router
    _reads_text: bool

    def _assemble(self, native: _core.Router | None, *, threads: int = 1) -> None:
        """Take the native router, or make it of `_settings`, `_tensors` and `_mapped`; to be called at the end of init.

        Raises:
            InvalidArgumentError: Parts are missing or do not fit together.
            EmbedderMismatchError: The embedder's dim is another one.
        """
        if native is None:
            contents = contents_in_memory(self.kind, self._settings(), self._tensors(), self._mapped())
            native = _core.make_router(contents, native_embedder(self._embedder), threads=threads)
        if self._embedder is not None and self._embedder.dim != native.dim:
            raise EmbedderMismatchError(
                f"this {self.kind} router scores embeddings of {native.dim} dimensions, "
                f"the embedder {self._embedder.name} makes {self._embedder.dim}"
            )
        self._native = native
        self._reads_text = native.reads_text

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._native.dim

    @property
    @abstractmethod
    def model_names(self) -> tuple[str, ...]:
        """The models that the router knows."""

    @property
    @abstractmethod
    def scoring_pair(self) -> ModelPair:
        """The pair whose win rate is computed; `model_pair` may have other names."""

    @property
    def precision(self) -> str:
        """How the router's parts are kept: float32, or the name of a compressed form."""
        return "float32"

    @property
    def error_bound(self) -> float:
        """How far a win rate may be from the exact one; decisions are exact nevertheless. 0 without compression."""
        return 0.0

    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1].

        Raises:
            TypeError: The prompt is not str; `routellm_fast.prompt.text_of` makes it of chat messages.
            EmbedderUnavailableError: The router has no embedder.
        """
        if self._reads_text:
            return self._native.win_rate(prompt)
        return self._native.win_rate_from_embedding(self._embed([prompt])[0], of_text=True)

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates; raises as win_rate does."""
        if self._reads_text:
            return self._native.win_rates(prompts)
        return self._native.win_rates_from_embeddings(self._embed(prompts), of_texts=True)

    def win_rates_from_embeddings(self, embeddings: FloatArray) -> FloatArray:
        """Return (n,) float32 win rates of (n, dim) float32 C-contiguous embeddings.

        Raises:
            InvalidEmbeddingError: Another shape or type, or a value that is not finite; of sw_ranking also a row of
                zeros, and one whose largest similarity is exactly 0. The text names the row.
            ArtifactIntegrityError: A mapped file of a sw_ranking router was changed in place since it was loaded.
        """
        return self._native.win_rates_from_embeddings(embeddings)

    def win_rate_from_embedding(self, embedding: FloatArray) -> float:
        """Return the win rate of one (dim,) float32 embedding. Raises InvalidEmbeddingError."""
        return self._native.win_rate_from_embedding(embedding)

    def exact_win_rates_from_embeddings(self, embeddings: FloatArray, *, of_texts: bool = False) -> NDArray[np.float64]:
        """Return (n,) float64 win rates without the error of a compressed form, whatever the precision.

        Args:
            embeddings: (n, dim) float32, C-contiguous.
            of_texts: Whether an embedder made them of texts, as which a row of zeros is scored and not refused.

        Raises:
            InvalidEmbeddingError: As win_rates_from_embeddings does.
        """
        return self._native.exact_win_rates(embeddings, of_texts)

    def route(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Choose the strong model when its win rate is at least the threshold, exactly; see Router.route."""
        # What is right takes the short way: this is the call that services wait for.
        if type(threshold) is not float or not 0.0 <= threshold <= 1.0:
            threshold = self._checked_threshold(threshold)
        if no_text != "strong":
            check_no_text(no_text)
        if not self._reads_text:
            return self.route_batch([prompt], threshold, no_text=no_text)[0]
        rate, is_whole = self._native.route(prompt, threshold)
        if is_whole and "!" <= prompt[:1] <= "~":  # nearly all prompts: text that begins with something to be seen
            return decide(self._model_pair, rate, threshold)
        return decide(self._model_pair, rate, threshold, basis_of(prompt, is_whole), no_text)

    def route_batch(
        self, prompts: Sequence[str], threshold: float | None = None, *, no_text: NoText = "strong"
    ) -> list[Decision]:
        """Return route of each prompt."""
        limit = self._checked_threshold(threshold)
        check_no_text(no_text)
        if self._reads_text:
            rates, are_whole = self._native.route_batch(prompts, limit)
            return self._decisions(prompts, rates.tolist(), are_whole.tolist(), limit, no_text)
        rates = self._native.win_rates_from_embeddings(self._embed(prompts), limit, of_texts=True)
        return self._decisions(prompts, rates.tolist(), self._read_whole(prompts), limit, no_text)

    def _read_whole(self, prompts: Sequence[str]) -> Sequence[bool]:
        embedder = self.embedder
        return embedder.reads_whole(prompts) if isinstance(embedder, KnowsExcerpts) else super()._read_whole(prompts)

    def _embed(self, prompts: Sequence[str]) -> FloatArray:
        """Return a vector for each prompt, checked: any class may be an embedder."""
        texts, embedder = check_texts(prompts), self.embedder
        return check_vectors(embedder.embed(texts), len(texts), self.dim, f"the embedder {embedder.name}")

    def _shown(self) -> dict[str, Any]:
        return {"dim": self.dim, "precision": self.precision}


def native_embedder(embedder: Embedder | None) -> _core.StaticEmbedder | None:
    """Return the embedder that the core itself runs; None for any other, also for one whose class embeds by itself."""
    if isinstance(embedder, StaticEmbedder) and type(embedder).embed is StaticEmbedder.embed:
        return embedder.native
    return None


def contents_in_memory(
    kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Any], mapped: Mapping[str, Any]
) -> _core.DirectoryContents:
    """Return what a native router is made of, as if it had been read from a directory. The arrays are borrowed."""
    manifest = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "model_pair": {"strong": "strong", "weak": "weak"},  # Python sends prompts by the router's own
        "embedder": None,
        "settings": dict(settings),
        "tensors": {},
        "files": {},
        "calibration": None,
        "provenance": {},
    }
    return _core.DirectoryContents(f"this {kind} router", json.dumps(manifest).encode(), dict(tensors), dict(mapped))


def restored_native(artifact: Artifact, embedder: Embedder | None, *, threads: int = 1) -> _core.Router:
    """Return the native router of an artifact, checked whole.

    Raises:
        ArtifactFormatError: The artifact was read from a directory, whose parts are missing or do not fit together.
        InvalidArgumentError: The same for an artifact in memory.
        EmbedderMismatchError: The embedder's dim is another one.
    """
    contents = artifact.native
    if contents is None:
        manifest = artifact.manifest
        contents = contents_in_memory(manifest["kind"], manifest["settings"], artifact.tensors, artifact.mapped)
    return _core.make_router(contents, native_embedder(embedder), threads=threads)
