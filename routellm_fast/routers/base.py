"""What every router can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from routellm_fast.arrays import FloatArray, check_unchanged
from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, write_artifact
from routellm_fast.calibration import Calibration
from routellm_fast.decision import (
    DEFAULT_STRONG_SHARE,
    Decision,
    ModelPair,
    NoText,
    basis_of,
    check_no_text,
    check_share,
    checked_pair,
    decide,
)
from routellm_fast.embedders.base import Embedder, checked_embedder
from routellm_fast.embedders.stored import restore_embedder, server_of_spec, store_embedder
from routellm_fast.endpoints import allowed_servers
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError
from routellm_fast.origin import Origin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from routellm_fast.calibration.operating_points import OperatingPoint

_RouterT = TypeVar("_RouterT", bound="Router")


@runtime_checkable
class GraphRouter(Protocol):
    """A router that is an ONNX graph from tokens to win rates, or can become one."""

    def onnx_graph(self) -> bytes:
        """Return the graph, in float32."""
        ...

    def onnx_inputs(self, prompts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for n prompts, by name, each with n rows."""
        ...


class Router(ABC):
    """Decides for each prompt between a strong and a weak model. Immutable and thread-safe.

    A win rate depends on the prompt alone: not on what else is in the batch, nor on the number of threads.

    Routers pickle. One that load_router read is read again from its directory on the other side, memory-mapped as here,
    and refused there if the directory was changed meanwhile; what was made of it in memory, and any other router,
    carries its parts. A deep copy is the router itself, since nothing can change it.

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
        self._model_pair = checked_pair(*model_pair)
        self._embedder = None if embedder is None else checked_embedder(embedder)
        self._embedder_spec = embedder_spec
        self._calibration = _checked_calibration(calibration)
        self._default_threshold: float | None = None  # read from the calibration when it is first needed
        self._provenance = dict(provenance or {})
        self._model_card = model_card
        self._origin: Origin | None = None
        self._keeps_given_embedder = False  # it is none of the origin's

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
    def has_embedder(self) -> bool:
        """Whether the router can make vectors of prompts; `embedder` raises where it has none."""
        return self._embedder is not None

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

    @property
    def answers_at_once(self) -> bool:
        """Whether a prompt takes microseconds, without input or output: an event loop may then ask in place."""
        return False

    @abstractmethod
    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]. Defined for every str, the empty one too."""

    @abstractmethod
    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates, equal to win_rate of each."""

    @property
    def default_threshold(self) -> float:
        """The threshold of decisions for which none is given: the calibrated one of a strong share of 50 %.

        Raises InvalidArgumentError where the router has no calibration: win rates of one router mean nothing for
        another, so no number would be right for all of them.
        """
        if self._default_threshold is None:
            self._default_threshold = self.threshold_for(DEFAULT_STRONG_SHARE)
        return self._default_threshold

    def route(self, prompt: str, threshold: float | None = None, *, no_text: NoText = "strong") -> Decision:
        """Choose the strong model when its win rate is at least the threshold, as RouteLLM does.

        Args:
            prompt: The text that is routed on.
            threshold: In [0, 1]; None for default_threshold.
            no_text: What a prompt without text (empty or blank) gets: "strong", "weak", or "score" for what its win
                rate says, which then rests on nothing.

        Raises:
            InvalidThresholdError: The threshold is outside [0, 1] or NaN.
            InvalidArgumentError: No threshold is given and the router has no calibration, or no_text is another word.
            TypeError: The prompt is not str; `routellm_fast.prompt.text_of` makes it of chat messages.
        """
        return self.route_batch([prompt], threshold, no_text=no_text)[0]

    def route_batch(
        self, prompts: Sequence[str], threshold: float | None = None, *, no_text: NoText = "strong"
    ) -> list[Decision]:
        """Return route of each prompt."""
        limit = self._checked_threshold(threshold)
        check_no_text(no_text)
        win_rates = self.win_rates(prompts).tolist()
        return self._decisions(prompts, win_rates, self._read_whole(prompts), limit, no_text)

    def _decisions(
        self,
        prompts: Sequence[str],
        win_rates: Sequence[float],
        are_whole: Sequence[bool],
        threshold: float,
        no_text: NoText,
    ) -> list[Decision]:
        pair = self._model_pair
        return [
            decide(pair, win_rate, threshold, basis_of(prompt, is_whole), no_text)
            for prompt, win_rate, is_whole in zip(prompts, win_rates, are_whole, strict=True)
        ]

    def _checked_threshold(self, threshold: float | None) -> float:
        return self.default_threshold if threshold is None else check_share(threshold, "threshold")

    def _read_whole(self, prompts: Sequence[str]) -> Sequence[bool]:
        """Return of each prompt whether all of its text is read; True where it is not known."""
        return [True] * len(prompts)

    def threshold_for(self, strong_share: float) -> float:
        """Return the threshold that sends this share of the calibration prompts to the strong model.

        Raises:
            InvalidThresholdError: The share is outside [0, 1] or NaN.
            InvalidArgumentError: The router was never calibrated.
        """
        if self._calibration is None:
            check_share(strong_share, "strong share")
            raise InvalidArgumentError(
                "this router has no calibration, so nothing says which threshold suits its win rates: give a "
                "threshold, or calibrate the router on prompts like your traffic (routellm-fast calibrate)"
            )
        return self._calibration.threshold_for(strong_share)

    def operating_point(self, name: str) -> OperatingPoint:
        """Return what `routellm-fast calibrate` found for a target, e.g. "pgr=0.8" or "strong_share=0.3".

        Raises:
            InvalidArgumentError: The calibration has no such point, or there is no calibration; the text names those
                that there are.
        """
        points = {} if self._calibration is None else self._calibration.operating_points
        if name not in points:
            known = f"it has {', '.join(points)}" if points else "it has none"
            raise InvalidArgumentError(
                f"this router has no operating point {name!r}: {known}. `routellm-fast calibrate` finds them"
            )
        return points[name]

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
        router = object.__new__(type(self))
        router.__dict__.update(self.__dict__)
        router._calibration, router._default_threshold = _checked_calibration(calibration), None
        return router

    def save(self, path: str | Path) -> str:
        """Write a router directory, whole or not at all.

        Returns:
            The directory's digest, "sha256:<hex>": load_router(path, digest=...) then takes these bytes and no others.

        Raises:
            ArtifactWriteError: The file system refused, or something else stands there; nothing was changed.
        """
        own = self._artifact()
        tensors: Mapping[str, NDArray[Any]] = {}
        files: Mapping[str, bytes] = {}
        if self._embedder is not None:
            _, tensors, files = store_embedder(self._embedder)
        whole = Artifact(own.manifest, {**tensors, **own.tensors}, {**files, **own.files}, own.model_card, own.mapped)
        return write_artifact(path, whole, ROUTER_LAYOUT)

    def _artifact(self) -> Artifact:
        """Return what the router is made of, without its embedder's tensors and files."""
        manifest = {
            "kind": self.kind,
            "model_pair": self._model_pair._asdict(),
            "embedder": self._embedder_spec if self._embedder is None else store_embedder(self._embedder)[0],
            "settings": self._settings(),
            "calibration": None if self._calibration is None else self._calibration.to_json(),
            "provenance": self._provenance,
        }
        return Artifact(manifest, self._tensors(), self._files(), self._model_card, self._mapped())

    @classmethod
    def from_artifact(
        cls: type[_RouterT],
        artifact: Artifact,
        *,
        model_pair: ModelPair | None = None,
        embedder: Embedder | None = None,
        origin: Origin | None = None,
        allowed_servers: Collection[str] = (),
        **runtime: Any,
    ) -> _RouterT:
        """Build from a directory's contents; load_router reads them and knows the class of each kind.

        Args:
            artifact: The contents, of this kind.
            model_pair: The models that prompts are sent to; None for the stored ones.
            embedder: The embedder that the router was trained with; None for the stored one.
            origin: Where the contents were read from.
            allowed_servers: Servers that the stored embedder may ask; see endpoints.allowed_servers.
            **runtime: See runtime_options.

        Raises:
            ArtifactFormatError: The contents break the kind's rules.
            InvalidArgumentError: The same, where it is a rule of arguments.
            EmbedderMismatchError: The embedder is not the one that the router was trained with.
            UntrustedServerError: The stored embedder asks a server that is not allowed.
        """
        manifest = artifact.manifest
        stored, calibration = manifest["model_pair"], manifest["calibration"]
        common: dict[str, Any] = {
            "embedder": restore_embedder(
                manifest["embedder"],
                artifact.tensors,
                artifact.files,
                embedder,
                origin=origin,
                allowed_servers=allowed_servers,
            ),
            "embedder_spec": manifest["embedder"],
            "calibration": None if calibration is None else Calibration.from_json(calibration),
            "provenance": manifest["provenance"],
            "model_card": artifact.model_card,
            **runtime,
        }
        pair = ModelPair(stored["strong"], stored["weak"]) if model_pair is None else model_pair
        router = cls._restore(artifact, pair, common)
        router._origin, router._keeps_given_embedder = origin, embedder is not None
        return router

    def __reduce__(self) -> tuple[Any, ...]:
        runtime = self._runtime()
        if self._origin is not None:
            embedder = self._embedder if self._keeps_given_embedder else None
            # Whoever made the pickle has allowed the server for this very directory, whose digest the origin holds.
            allowed = allowed_servers(server_of_spec(self._embedder_spec)) if embedder is None else ()
            kept = type(self), self._origin, self._model_pair, self._calibration, embedder, runtime, allowed
            return _reloaded, kept
        own = self._artifact()
        for array in own.mapped.values():
            check_unchanged(array)
        parts = own.manifest, dict(own.tensors), dict(own.files), own.model_card, dict(own.mapped)
        return _rebuilt, (type(self), parts, self._embedder, runtime)

    def __copy__(self: _RouterT) -> _RouterT:
        return self

    def __deepcopy__(self: _RouterT, memo: dict[int, Any]) -> _RouterT:
        return self

    def __repr__(self) -> str:
        """Kind, model pair, and what the kind shows of itself."""
        shown = {"kind": self.kind, **self._model_pair._asdict(), **self._shown()}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"

    def _shown(self) -> dict[str, Any]:
        """What repr shows of the kind."""
        return {}

    def _runtime(self) -> dict[str, Any]:
        """The runtime options that the router runs with."""
        return {}

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
    def _restore(cls: type[_RouterT], artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> _RouterT:
        """Build from a directory's contents; `common` are the keyword arguments of the constructor above."""


def _checked_calibration(calibration: Any) -> Calibration | None:
    if not (calibration is None or isinstance(calibration, Calibration)):
        raise TypeError(f"calibration is a Calibration or None, found {type(calibration).__name__}")
    return calibration


def _reloaded(
    cls: type[Router],
    origin: Origin,
    model_pair: ModelPair,
    calibration: Calibration | None,
    embedder: Embedder | None,
    runtime: dict[str, Any],
    allowed_servers: tuple[str, ...] = (),
) -> Router:
    """Unpickle a router that has a directory."""
    router = cls.from_artifact(
        origin.read(),
        model_pair=model_pair,
        embedder=embedder,
        origin=origin,
        allowed_servers=allowed_servers,
        **runtime,
    )
    return router.with_calibration(calibration)


def _rebuilt(cls: type[Router], parts: tuple[Any, ...], embedder: Embedder | None, runtime: dict[str, Any]) -> Router:
    """Unpickle a router that carries its parts; without an embedder, what its directory says of one says who has it."""
    manifest, *others = parts
    artifact = Artifact({**manifest, "embedder": None}, *others)
    router = cls.from_artifact(artifact, embedder=embedder, **runtime)
    router._embedder_spec = manifest["embedder"]
    return router
