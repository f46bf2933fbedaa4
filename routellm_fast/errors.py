"""What can go wrong, by name: every fault a user can cause is a RouteLLMError.

Where Python has a builtin for the case, the class is that too, so that `except ValueError` keeps working. Wrong types
stay TypeError.
"""

from __future__ import annotations


class RouteLLMError(Exception):
    """Base of all errors of this package. Its text says what was found, what was expected and what to do."""


class InvalidArgumentError(RouteLLMError, ValueError):
    """An argument breaks a documented rule."""


class InvalidThresholdError(RouteLLMError, ValueError):
    """A threshold or strong share outside [0, 1], or NaN."""


class UnknownModelError(RouteLLMError, LookupError):
    """A model name that the router was not trained with."""


class UnsupportedIsaError(RouteLLMError):
    """ROUTELLM_FAST_ISA names an instruction set that does not exist or cannot run here."""


class MissingExtraError(RouteLLMError, ImportError):
    """An optional dependency is not installed; the text names the extra that brings it."""


class DataError(RouteLLMError, ValueError):
    """A training, calibration or evaluation file does not hold what it should; the text names file and line."""


class EndpointError(RouteLLMError):
    """A language model's endpoint refuses to answer, or fails too often to go on. What it answered before is kept."""


class UnreachableTargetError(RouteLLMError, ValueError):
    """No threshold meets a cost budget or a quality target; the text names the nearest."""


class ArtifactError(RouteLLMError):
    """A router or embedder directory cannot be used."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """The directory, or a file that it must hold, is not there."""


class ArtifactVersionError(ArtifactError):
    """The directory was written in a format newer than this version reads."""


class ArtifactFormatError(ArtifactError, ValueError):
    """The directory's contents break the format: not JSON, an unknown or missing key, a wrong shape."""


class ArtifactIntegrityError(ArtifactError):
    """A file differs from what the manifest recorded, or a weight is not finite."""


class ArtifactWriteError(ArtifactError, OSError):
    """The directory could not be written. Nothing was changed at its place."""


class CheckpointMismatchError(ArtifactError, ValueError):
    """A checkpoint is of another training: other data or other settings."""


class OnnxModelError(ArtifactError, ValueError):
    """An ONNX graph cannot be read or run, or is not one that does what it should."""


class ProviderUnavailableError(RouteLLMError):
    """ONNX Runtime does not run on the device that was asked for; the text names those that it has."""


class ScoringError(RouteLLMError):
    """A language model's output is no score: its logits are not finite."""


class EmbeddingError(RouteLLMError):
    """Embedding failed."""


class EmbedderMismatchError(EmbeddingError, ValueError):
    """The embedder is not the one that the router was trained with."""


class EmbedderUnavailableError(EmbeddingError):
    """The embedder cannot be reached or built: network, credentials, or none given."""


class InvalidEmbeddingError(EmbeddingError, ValueError):
    """Embeddings of a wrong shape or type, or with a value that is not finite."""


class ExportError(RouteLLMError):
    """A router cannot be exported, or an exported one cannot be used."""


class UnsupportedExportError(ExportError, ValueError):
    """This router, or this combination of options, has no form in the other format."""


class ExportMismatchError(ExportError):
    """An exported router's win rates differ from the router's own by more than the bound; nothing was written."""


class ForeignExportError(ExportError, ValueError):
    """An export was made from another router, or is no export of this package."""


class EngineBuildError(ExportError):
    """TensorRT could not parse a graph or build an engine of it."""


class TritonError(RouteLLMError):
    """Routing by a Triton Inference Server failed."""


class TritonUnavailableError(TritonError, ConnectionError):
    """No replica answered in time; the text says what became of each."""


class TritonRefusedError(TritonError, ValueError):
    """The server refuses a request, which another replica would refuse too."""


class TritonClosedError(TritonError, RuntimeError):
    """The client was closed before the call began, or while it waited for an answer."""


class TritonAnswerError(TritonError):
    """What answers is no router of this package, or of another version."""
