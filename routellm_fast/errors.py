"""The errors of this package.

Every fault that a user can cause is a RouteLLMError, except that an argument of a wrong type raises TypeError.
Where Python has a builtin exception for the case, the class also derives from it: `except ValueError` catches an
InvalidArgumentError.
"""

from __future__ import annotations


class RouteLLMError(Exception):
    """Base of all errors of this package. Its text says what was found, what was expected and what to do."""


class InvalidArgumentError(RouteLLMError, ValueError):
    """An argument breaks a documented rule."""


class InvalidThresholdError(RouteLLMError, ValueError):
    """A threshold or a strong share is outside [0, 1], or NaN."""


class UnknownModelError(RouteLLMError, LookupError):
    """A model name is unknown to the router or to the data."""


class UnsupportedIsaError(RouteLLMError):
    """ROUTELLM_FAST_ISA names an instruction set that does not exist or cannot run here."""


class MissingExtraError(RouteLLMError, ImportError):
    """An optional library is not installed; the text names the extra of this package that installs it."""


class OnnxRuntimesWarning(UserWarning):
    """Several packages that bring the module onnxruntime are installed: the one that was installed last runs."""


class RoutingError(RouteLLMError, ValueError):
    """A request names no router, an unknown one or an unknown model, or a threshold that is none."""


class DataError(RouteLLMError, ValueError):
    """A training, calibration or evaluation file does not hold what it should; the text names file and line."""


class EndpointError(RouteLLMError):
    """A language model's server refuses to answer, or fails too often to go on. Answers received before are kept."""


class UnreachableTargetError(RouteLLMError, ValueError):
    """No threshold meets a strong share, a budget or a quality target; the text names the nearest that can be met."""


class OutputExistsError(RouteLLMError, FileExistsError):
    """Something stands where a result should go. Nothing was changed; the text says how to replace it."""


class ArtifactError(RouteLLMError):
    """A router or embedder directory cannot be used."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """The directory, or a file that it must hold, does not exist."""


class ArtifactVersionError(ArtifactError):
    """The directory was written in a format newer than this version reads."""


class ArtifactFormatError(ArtifactError, ValueError):
    """The directory's contents break the format: not JSON, an unknown or missing key, a wrong shape."""


class ArtifactIntegrityError(ArtifactError):
    """A file differs from what the manifest recorded, or the manifest from its digest, or a weight is not finite."""


class ArtifactMemoryError(ArtifactError, MemoryError):
    """A directory, or a file of one, needs more memory than the process can get; the text names it."""


class UntrustedServerError(ArtifactError):
    """A directory names a server that texts would be sent to, and nobody allowed it; the text says how to."""


class ArtifactWriteError(ArtifactError, OSError):
    """The directory could not be written. Nothing was changed at its place."""


class CheckpointMismatchError(ArtifactError, ValueError):
    """A training checkpoint was written by a training with other data or other settings."""


class OnnxModelError(ArtifactError, ValueError):
    """An ONNX graph cannot be read or run, or has other inputs or outputs than expected."""


class ProviderUnavailableError(RouteLLMError):
    """ONNX Runtime cannot run on the requested device; the text names the devices that it can use."""


class ScoringError(RouteLLMError):
    """A language model's output cannot be scored: its logits are not finite."""


class EmbeddingError(RouteLLMError):
    """A text could not be embedded. Base of the errors of embedders."""


class EmbedderMismatchError(EmbeddingError, ValueError):
    """The embedder is not the one that the router was trained with."""


class EmbedderUnavailableError(EmbeddingError):
    """The embedder cannot be reached or built: no connection, no valid key, or no embedder at all."""


class InvalidEmbeddingError(EmbeddingError, ValueError):
    """Embeddings have a wrong shape or type, or hold a value that is not finite."""


class ExportError(RouteLLMError):
    """A router cannot be exported, or an exported one cannot be used."""


class UnsupportedExportError(ExportError, ValueError):
    """The target format cannot express this router, or this combination of options."""


class ExportMismatchError(ExportError):
    """An exported router's win rates differ from the router's own by more than the bound; nothing was written."""


class ForeignExportError(ExportError, ValueError):
    """An export was made from another router, or not by this package."""


class EngineBuildError(ExportError):
    """TensorRT could not parse a graph, or not build an engine from it."""


class TritonError(RouteLLMError):
    """Routing through a Triton Inference Server failed. Base of the errors of Triton clients."""


class TritonUnavailableError(TritonError, ConnectionError):
    """No replica of the server answered in time; the text says what happened at each."""


class TritonRefusedError(TritonError, ValueError):
    """The server refused a request as invalid; other replicas are not tried, as they would refuse it too."""


class TritonClosedError(TritonError, RuntimeError):
    """The client was closed before the call began, or while it waited for an answer."""


class TritonAnswerError(TritonError):
    """The model at the server is no router of this package, or was exported by an incompatible version."""


class RouterFailedError(RouteLLMError):
    """A router could not decide, and the settings say that requests then fail."""
