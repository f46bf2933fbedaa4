"""What every router can do."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, write_artifact
from routellm_fast.calibration import Calibration
from routellm_fast.decision import Decision, ModelPair, check_share, decide
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.stored import store_embedder
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray


_RouterT = TypeVar("_RouterT", bound="Router")


class Router(ABC):
    """Decides for each prompt between a strong and a weak model. Immutable and thread-safe.

    A win rate depends on the prompt alone: not on what else is in the batch, nor on the number of threads.

    Source: RouteLLM's Router (routers/routers.py), where `calculate_strong_win_rate` is `win_rate`.
    """

    kind: ClassVar[str]

    # What load_router passes on to a kind that runs on more than the core: names of keyword arguments of _restore.
    runtime_options: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        model_pair: ModelPair,
        *,
        embedder: Embedder | None = None,
        embedder_spec: Mapping[str, Any] | None = None,
        calibration: Calibration | None = None,
        provenance: Mapping[str, Any] | None = None,
        model_card: str = "",
    ) -> None:
        """Keep what all kinds share.

        Args:
            model_pair: The models that prompts are sent to, by name.
            embedder: Turns prompts into vectors; None where only embeddings are scored.
            embedder_spec: Which embedder the router was trained with, where the embedder itself is not at hand.
            calibration: Quantiles of win rates; None leaves threshold_for without an answer.
            provenance: Where the router comes from, JSON-able, e.g. created, data, command.
            model_card: README.md of the router directory, Markdown.
        """
        self._model_pair = ModelPair(*model_pair)
        if not all(isinstance(name, str) and name for name in self._model_pair):
            raise InvalidArgumentError(f"a model pair is two names, found {tuple(self._model_pair)}")
        self._embedder = embedder
        self._embedder_spec = embedder_spec
        self._calibration = calibration
        self._provenance = dict(provenance or {})
        self._model_card = model_card

    @property
    def model_pair(self) -> ModelPair:
        """The models that prompts are sent to."""
        return self._model_pair

    @property
    def embedder(self) -> Embedder:
        """What turns prompts into vectors. Raises EmbedderUnavailableError where the router has none."""
        if self._embedder is None:
            raise EmbedderUnavailableError(
                f"this {self.kind} router has no embedder: it scores embeddings only "
                "(win_rates_from_embeddings). Give one with load_router(path, embedder=...)."
            )
        return self._embedder

    @property
    def calibration(self) -> Calibration | None:
        """The calibration stored with the router."""
        return self._calibration

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the router comes from."""
        return dict(self._provenance)

    @property
    def model_card(self) -> str:
        """The README.md of the router directory."""
        return self._model_card

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader wants to know of this kind of router, JSON-able; `routellm-fast info` shows it."""
        return {}

    @abstractmethod
    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]. Defined for every str, the empty one too."""

    @abstractmethod
    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates, equal to win_rate of each."""

    def route(self, prompt: str, threshold: float = 0.5) -> Decision:
        """Choose the strong model when its win rate is at least the threshold, as RouteLLM does.

        Raises:
            InvalidThresholdError: The threshold is outside [0, 1] or NaN.
            TypeError: The prompt is not str; `routellm_fast.prompt.text_of` makes it of chat messages.
        """
        if type(threshold) is not float or not 0.0 <= threshold <= 1.0:
            threshold = check_share(threshold, "threshold")
        return decide(self._model_pair, self.win_rate(prompt), threshold)

    def route_batch(self, prompts: Sequence[str], threshold: float = 0.5) -> list[Decision]:
        """Return route of each prompt."""
        threshold = check_share(threshold, "threshold")
        pair = self._model_pair
        return [decide(pair, win_rate, threshold) for win_rate in self.win_rates(prompts).tolist()]

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold that sends this share of the calibration prompts to the strong model.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
            InvalidArgumentError: The router was never calibrated.
        """
        if self._calibration is None:
            check_share(strong_share, "strong share")
            raise InvalidArgumentError(
                "this router has no calibration: give a threshold, or calibrate it on prompts like your traffic"
            )
        return self._calibration.threshold_for(strong_share)

    def probability(self, prompt: str) -> float:
        """Return the probability that the strong model's answer is the better one, a tie counting half.

        Raises:
            InvalidArgumentError: The router has no probability map.
        """
        return float(self.probabilities([prompt])[0])

    def probabilities(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 probabilities of `probability`: win rates as the stored map reads them.

        Decisions are made on win rates, which stay what they are.

        Raises:
            InvalidArgumentError: The router has no probability map.
        """
        if self._calibration is None or self._calibration.probability is None:
            raise InvalidArgumentError(
                "this router has no probability map: its win rates order prompts, and nothing says how often they are "
                "right. Fit one with `routellm-fast calibrate --probability best` on labelled prompts"
            )
        return self._calibration.probability(self.win_rates(prompts)).astype(np.float32)

    def with_calibration(self: _RouterT, calibration: Calibration | None) -> _RouterT:
        """Return the same router with another calibration; the two share everything else."""
        router = copy.copy(self)
        router._calibration = calibration
        return router

    def save(self, path: str | Path) -> None:
        """Write a router directory, whole or not at all.

        Raises:
            ArtifactWriteError: The file system refused, or something else stands there; nothing was changed.
        """
        spec, tensors, files = (
            (self._embedder_spec, {}, {}) if self._embedder is None else store_embedder(self._embedder)
        )
        manifest = {
            "kind": self.kind,
            "model_pair": self._model_pair._asdict(),
            "embedder": spec,
            "settings": self._settings(),
            "calibration": None if self._calibration is None else self._calibration.to_json(),
            "provenance": self._provenance,
        }
        artifact = Artifact(
            manifest, {**tensors, **self._tensors()}, {**files, **self._files()}, self._model_card, self._mapped()
        )
        write_artifact(path, artifact, ROUTER_LAYOUT)

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """What the kind keeps besides tensors, JSON-able."""

    @abstractmethod
    def _tensors(self) -> dict[str, NDArray[Any]]:
        """The kind's tensors by name."""

    def _files(self) -> Mapping[str, bytes]:
        """The kind's own files by name, e.g. a graph."""
        return {}

    def _mapped(self) -> dict[str, NDArray[Any]]:
        """The kind's large tensors by name, which are mapped rather than read."""
        return {}

    @classmethod
    @abstractmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> Router:
        """Build from a directory's contents; `common` are the keyword arguments of the constructor above."""
