"""Matrix factorisation: a vector for each model, and a prompt's embedding projected to the same space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import FloatArray, is_masked
from routellm_fast.artifact import Artifact
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.memory import enough_memory
from routellm_fast.routers._models import index_of
from routellm_fast.routers.embedding import EmbeddingRouter, restored_native
from routellm_fast.routers.routellm_checkpoint import read_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray


def fold_models(P: NDArray[Any], W: NDArray[Any], w: NDArray[Any]) -> NDArray[np.float64]:  # noqa: N803 - the paper's letters
    """Return (models, dim) float64 rows whose dot product with an embedding is the model's logit.

    logit_m = w . (P_m / |P_m| o W e) is linear in e: row m is W^T (w o P_m / |P_m|). The core adds in one order, so
    that all languages and machines fold to the same bits.
    """
    return _core.fold_models(*(np.ascontiguousarray(weights, np.float32) for weights in (P, W, w)))


class MatrixFactorizationRouter(EmbeddingRouter):
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
        _native: _core.Router | None = None,
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
        self._names = tuple(model_names)
        if isinstance(model_names, str) or not all(isinstance(name, str) for name in self._names):
            raise InvalidArgumentError(f"model_names is a sequence of names, found {model_names!r}")
        # Copies that nobody writes: what is scored, saved and folded again for another pair stays the same.
        self._weights = MappingProxyType({name: _own(name, array) for name, array in (("P", P), ("W", W), ("w", w))})
        self._scoring_pair = ModelPair(*(scoring_pair or model_pair))
        if _native is None:
            for name in self._scoring_pair:
                index_of(name, self._names, "no vector for")
        self._assemble(_native)

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
        with enough_memory(checkpoint_dir):
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

    @classmethod
    def of_vector(
        cls, vector: NDArray[Any], *, model_pair: ModelPair, embedder: Embedder | None, **common: Any
    ) -> MatrixFactorizationRouter:
        """Return the router of two models whose logit is the dot product of a vector and an embedding.

        Args:
            vector: (dim,) finite numbers.
            model_pair: The two models.
            embedder: Of dimension dim, or None to score embeddings only.
            **common: calibration, provenance, model_card; see Router.
        """
        # The vectors of the two models, 1 and -1, differ by 2.
        W = np.asarray(vector, dtype=np.float64)[None] / 2.0  # noqa: N806 - the paper's letter
        ends = np.array([[1.0], [-1.0]], dtype=np.float32)
        return cls(
            model_pair,
            ends,
            W.astype(np.float32),
            np.ones(1, dtype=np.float32),
            model_pair=model_pair,
            embedder=embedder,
            **common,
        )

    @property
    def pair_vector(self) -> NDArray[np.float64]:
        """(dim,) float64: its dot product with an embedding is the logit of the scoring pair's win rate."""
        rows = fold_models(*(self._weights[name] for name in ("P", "W", "w")))
        strong, weak = (self._names.index(name) for name in self._scoring_pair)
        vector: NDArray[np.float64] = rows[strong] - rows[weak]
        return vector

    @property
    def facts(self) -> dict[str, Any]:
        """The scoring pair and how many models there are."""
        return {"scoring pair": list(self._scoring_pair), "models": len(self._names), "dimensions": self.dim}

    @property
    def answers_at_once(self) -> bool:
        """Whether text goes to win rate in one call of the core, without an embedder that Python asks."""
        return self._reads_text

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that the router has a vector for."""
        return self._names

    @property
    def scoring_pair(self) -> ModelPair:
        """The pair whose win rate is computed; `model_pair` may have other names."""
        return self._scoring_pair

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """What the router was made of, read-only: P (models, d), W (d, dim) and w (d,); see the constructor."""
        return self._weights

    def model_logits(self, embeddings: FloatArray) -> FloatArray:
        """Return (n, models) float32 logits; a pair's win rate is the sigmoid of the difference of two columns."""
        return self._native.rank(embeddings)

    def for_pair(self, strong_model: str, weak_model: str) -> MatrixFactorizationRouter:
        """Return a router that scores, and sends to, another pair of its models. It is not calibrated.

        Raises:
            UnknownModelError: The router has no vector for one of them.
        """
        return MatrixFactorizationRouter(
            self._names,
            self._weights["P"],
            self._weights["W"],
            self._weights["w"],
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
        native = restored_native(artifact, common["embedder"])
        settings = artifact.manifest["settings"]
        weights: dict[str, Any] = {name: artifact.tensors[name] for name in ("P", "W", "w")}
        return cls(
            settings["models"],
            **weights,
            model_pair=model_pair,
            scoring_pair=ModelPair(**settings["scoring_pair"]),
            _native=native,
            **common,
        )


def _own(name: str, values: Any) -> NDArray[np.float32]:
    if is_masked(values):
        raise InvalidArgumentError(f"{name} is a masked array, whose masked values would be read as numbers: fill them")
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of unequal lengths
        raise InvalidArgumentError(f"{name} is an array of real numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise InvalidArgumentError(f"{name} is an array of real numbers, found {array.dtype} {array.shape}")
    copy = np.array(array, dtype=np.float32, order="C")
    copy.setflags(write=False)
    return copy
