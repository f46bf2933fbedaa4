"""Route each prompt to the cheapest language model that answers it well.

>>> import routellm_fast as rf
>>> router = rf.load_router()  # the router that ships: offline, no key
>>> router.route("Prove that there are infinitely many primes.").model  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    # By its full name first: where the extension is missing, `from routellm_fast import _core` would report a circular
    # import.
    import routellm_fast._core  # noqa: F401
except ImportError as error:
    from routellm_fast._no_core import explained

    raise ImportError(explained(error), name=error.name, path=error.path) from error

from routellm_fast import _core, embedders
from routellm_fast.calibration import Calibration
from routellm_fast.decision import Decision, ModelPair
from routellm_fast.embedders import Embedder, StaticEmbedder
from routellm_fast.errors import (
    ArtifactError,
    ArtifactFormatError,
    ArtifactIntegrityError,
    ArtifactMemoryError,
    ArtifactNotFoundError,
    ArtifactVersionError,
    ArtifactWriteError,
    CheckpointMismatchError,
    DataError,
    EmbedderMismatchError,
    EmbedderUnavailableError,
    EmbeddingError,
    EndpointError,
    EngineBuildError,
    ExportError,
    ExportMismatchError,
    ForeignExportError,
    InvalidArgumentError,
    InvalidEmbeddingError,
    InvalidThresholdError,
    MissingExtraError,
    OnnxModelError,
    OutputExistsError,
    ProviderUnavailableError,
    RouteLLMError,
    RouterFailedError,
    RoutingError,
    ScoringError,
    TritonAnswerError,
    TritonClosedError,
    TritonError,
    TritonRefusedError,
    TritonUnavailableError,
    UnknownModelError,
    UnreachableTargetError,
    UnsupportedExportError,
    UnsupportedIsaError,
    UntrustedServerError,
)
from routellm_fast.routers import Router, load_router

if TYPE_CHECKING:
    from routellm_fast.embedders import CachedEmbedder, FunctionEmbedder, OnnxEmbedder, OpenAIEmbedder

__version__ = _core.__version__

__all__ = [
    "ArtifactError",
    "ArtifactFormatError",
    "ArtifactIntegrityError",
    "ArtifactMemoryError",
    "ArtifactNotFoundError",
    "ArtifactVersionError",
    "ArtifactWriteError",
    "CachedEmbedder",
    "Calibration",
    "CheckpointMismatchError",
    "DataError",
    "Decision",
    "Embedder",
    "EmbedderMismatchError",
    "EmbedderUnavailableError",
    "EmbeddingError",
    "EndpointError",
    "EngineBuildError",
    "ExportError",
    "ExportMismatchError",
    "ForeignExportError",
    "FunctionEmbedder",
    "InvalidArgumentError",
    "InvalidEmbeddingError",
    "InvalidThresholdError",
    "MissingExtraError",
    "ModelPair",
    "OnnxEmbedder",
    "OnnxModelError",
    "OpenAIEmbedder",
    "OutputExistsError",
    "ProviderUnavailableError",
    "RouteLLMError",
    "Router",
    "RouterFailedError",
    "RoutingError",
    "ScoringError",
    "StaticEmbedder",
    "TritonAnswerError",
    "TritonClosedError",
    "TritonError",
    "TritonRefusedError",
    "TritonUnavailableError",
    "UnknownModelError",
    "UnreachableTargetError",
    "UnsupportedExportError",
    "UnsupportedIsaError",
    "UntrustedServerError",
    "load_router",
]


def __getattr__(name: str) -> Any:
    if name not in ("CachedEmbedder", "FunctionEmbedder", "OnnxEmbedder", "OpenAIEmbedder"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(embedders, name)  # imported on first use


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
