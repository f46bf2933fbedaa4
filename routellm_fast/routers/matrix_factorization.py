"""Matrix factorisation: a vector for each model, and a prompt's embedding projected to the same space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import Artifact
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import (
    ArtifactFormatError,
    EmbedderMismatchError,
    InvalidArgumentError,
    UnknownModelError,
)
from routellm_fast.routers._models import index_of
from routellm_fast.routers.base import Router
from routellm_fast.routers.routellm_checkpoint import read_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TENSORS = ("P", "W", "w")


def fold_models(P: NDArray[Any], W: NDArray[Any], w: NDArray[Any]) -> NDArray[np.float64]:  # noqa: N803 - the paper's letters
    """Return (models, dim) float64 rows whose dot product with an embedding is the model's logit.

    logit_m = w . (P_m / |P_m| o W e) is linear in e: row m is W^T (w o P_m / |P_m|). The core adds in one order, so
    that all languages and machines fold to the same bits.
    """
    return _core.fold_models(*(np.ascontiguousarray(weights, np.float32) for weights in (P, W, w)))


class MatrixFactorizationRouter(Router):
    """RouteLLM's `mf`, folded to one vector for the pair: a win rate is one dot product and a sigmoid.

    P, W and w stay with the router, so that any pair of its models can be folded (`for_pair`) and all models scored
    at once (`model_logits`).

    Source: section 4.2 of the paper; RouteLLM's MFModel (routers/matrix_factorization/model.py), which has no biases.
    """

    kind = "mf"

    def __init__(
        self,
        model_names: Sequence[str],
        P: NDArray[np.float32],  # noqa: N803 - the paper's letters
        W: NDArray[np.float32],  # noqa: N803
        w: NDArray[np.float32],
        *,
        model_pair: ModelPair,
        scoring_pair: ModelPair | None = None,
        embedder: Embedder | None = None,
        **common: Any,
    ) -> None:
        """Fold the pair.

        Args:
            model_names: The m models, in the order of P's rows.
            P: (m, d) float32 model vectors; they are scaled to unit length.
            W: (d, dim) float32 projection of embeddings.
            w: (d,) float32 classifier.
            model_pair: The models that prompts are sent to; any names.
            scoring_pair: The pair whose win rate is computed, both among model_names. None: model_pair itself.
            embedder: Of dimension dim, or None to score embeddings only.
            **common: calibration, provenance, model_card; see Router.

        Raises:
            UnknownModelError: The scoring pair is not among model_names.
            InvalidArgumentError: Shapes do not agree.
            EmbedderMismatchError: The embedder's dim is not W's.
        """
        super().__init__(model_pair, embedder=embedder, **common)
        names = tuple(model_names)
        if len(set(names)) != len(names):
            raise InvalidArgumentError("model names must be distinct")
        if P.ndim != 2 or W.ndim != 2 or P.shape != (len(names), len(w)) or W.shape[0] != len(w) or w.ndim != 1:
            raise InvalidArgumentError(
                f"expected P ({len(names)}, d), W (d, dim) and w (d,) for {len(names)} models, "
                f"found {P.shape}, {W.shape} and {w.shape}"
            )
        if embedder is not None and embedder.dim != W.shape[1]:
            raise EmbedderMismatchError(
                f"W projects embeddings of {W.shape[1]} dimensions, the embedder {embedder.name} makes {embedder.dim}"
            )
        self._names = names
        self._weights: dict[str, Any] = {"P": P, "W": W, "w": w}
        self._scoring_pair = ModelPair(*(scoring_pair or model_pair))
        strong, weak = (index_of(name, names, "no vector for") for name in self._scoring_pair)
        rows = fold_models(P[[strong, weak]], W, w)
        with np.errstate(over="ignore"):  # the core refuses a vector beyond float32 by name
            vector = (rows[0] - rows[1]).astype(np.float32)
        self._scorer = _core.LinearScorer(vector)
        native = embedder.native if isinstance(embedder, StaticEmbedder) else None
        self._text_scorer = None if native is None else _core.TextScorer(native, vector)

    @classmethod
    def from_routellm(
        cls,
        checkpoint_dir: str | Path,
        *,
        strong_model: str = "gpt-4-1106-preview",
        weak_model: str = "mixtral-8x7b-instruct-v0.1",
        embedder: Embedder | None,
        model_names: Sequence[str] | None = None,
    ) -> MatrixFactorizationRouter:
        """Read a checkpoint of RouteLLM's MFModel: model.safetensors, with or without config.json.

        Args:
            checkpoint_dir: The folder, e.g. a copy of routellm/mf_gpt4_augmented.
            strong_model: Scoring pair, by RouteLLM's model names (`MODEL_IDS`); the routed pair is the same unless
                changed by `load_router(..., strong_model=, weak_model=)`.
            weak_model: See strong_model.
            embedder: text-embedding-3-small for the published checkpoints (`OpenAIEmbedder()`), or None.
            model_names: The checkpoint's models in the order of its rows; None for RouteLLM's own 64.

        Raises:
            ArtifactNotFoundError, ArtifactFormatError: No such checkpoint, or one of another shape.
            UnknownModelError: A model that the checkpoint does not know.
        """
        checkpoint = read_checkpoint(Path(checkpoint_dir), model_names)
        return cls(
            checkpoint.model_names,
            checkpoint.P,
            checkpoint.W,
            checkpoint.w,
            model_pair=ModelPair(strong_model, weak_model),
            embedder=embedder,
            provenance={"source": "RouteLLM checkpoint", "weights_sha256": checkpoint.sha256},
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The scoring pair and how many models there are."""
        return {"scoring pair": list(self._scoring_pair), "models": len(self._names), "dimensions": self.dim}

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that the router has a vector for."""
        return self._names

    @property
    def scoring_pair(self) -> ModelPair:
        """The pair whose win rate is computed; `model_pair` may have other names."""
        return self._scoring_pair

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._scorer.dim

    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]."""
        if self._text_scorer is not None:
            return self._text_scorer.win_rate(prompt)
        return float(self.win_rates([prompt])[0])

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates."""
        if self._text_scorer is not None:
            return self._text_scorer.win_rates(prompts)
        return self._scorer.win_rates(self.embedder.embed(prompts))

    def win_rates_from_embeddings(self, embeddings: FloatArray) -> FloatArray:
        """Return (n,) float32 win rates of (n, dim) float32 C-contiguous embeddings.

        Raises:
            InvalidEmbeddingError: Another shape or type, or a value that is not finite; the text names the row.
        """
        return self._scorer.win_rates(embeddings)

    def win_rate_from_embedding(self, embedding: FloatArray) -> float:
        """Return the win rate of one (dim,) float32 embedding. Raises InvalidEmbeddingError."""
        return self._scorer.win_rate(embedding)

    def model_logits(self, embeddings: FloatArray) -> FloatArray:
        """Return (n, models) float32 logits; a pair's win rate is the sigmoid of the difference of two columns."""
        return self._models.logits(embeddings)

    @cached_property
    def _models(self) -> _core.LinearModels:
        return _core.LinearModels(fold_models(**self._weights).astype(np.float32))

    def for_pair(self, strong_model: str, weak_model: str) -> MatrixFactorizationRouter:
        """Return a router that scores, and sends to, another pair of its models. It is not calibrated.

        Raises:
            UnknownModelError: The router has no vector for one of them.
        """
        return MatrixFactorizationRouter(
            self._names,
            **self._weights,
            model_pair=ModelPair(strong_model, weak_model),
            embedder=self._embedder,
            embedder_spec=self._embedder_spec,
            provenance=self._provenance,
            model_card=self._model_card,
        )

    def _settings(self) -> dict[str, Any]:
        return {"models": list(self._names), "scoring_pair": self._scoring_pair._asdict()}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return dict(self._weights)

    @classmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> MatrixFactorizationRouter:
        settings = artifact.manifest["settings"]
        _check_settings(settings, artifact.tensors)
        weights: dict[str, Any] = {name: artifact.tensors[name] for name in _TENSORS}
        try:
            return cls(
                settings["models"],
                **weights,
                model_pair=model_pair,
                scoring_pair=ModelPair(**settings["scoring_pair"]),
                **common,
            )
        except (InvalidArgumentError, UnknownModelError, EmbedderMismatchError, TypeError) as error:
            raise ArtifactFormatError(f"the mf router's parts do not fit together: {error}") from error


def _check_settings(settings: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    models = settings.get("models")
    fits = isinstance(models, list) and all(isinstance(name, str) for name in models)
    if set(settings) != {"models", "scoring_pair"} or not fits or not isinstance(settings["scoring_pair"], dict):
        raise ArtifactFormatError(
            "an mf router's settings hold models (a list of names) and scoring_pair (strong and weak)"
        )
    for name in _TENSORS:
        if name not in tensors or tensors[name].dtype != np.float32:
            found = tensors[name].dtype if name in tensors else "nothing"
            raise ArtifactFormatError(f"an mf router needs the float32 tensor {name}, found {found}")
