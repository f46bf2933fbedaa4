"""What runs inside Triton's Python backend: a model.py takes a class from here as its TritonPythonModel.

A request that cannot be answered fails alone; the others of its batch are answered. Instances are processes, each with
one thread that calls `execute`.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.decision import ModelPair, decide
from routellm_fast.errors import (
    ArtifactFormatError,
    InvalidArgumentError,
    InvalidEmbeddingError,
    InvalidThresholdError,
    ProviderUnavailableError,
    RouteLLMError,
)
from routellm_fast.routers.loading import load_router
from routellm_fast.scoring import first_outside
from routellm_fast.serving.triton_protocol import (
    ALLOW_SERVER,
    DEFAULT_THRESHOLD,
    DEVICE,
    DIRECTORY_DIGEST,
    EMBEDDING,
    IS_STRONG,
    MODEL,
    PROMPT,
    ROUTER_DIRECTORY,
    ROUTER_FOLDER,
    STRONG_MODEL,
    THREADS,
    THRESHOLD,
    WEAK_MODEL,
    WIN_RATE,
    float32_threshold,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Faults of whoever asks. Others are the server's: a client may try another replica.
_BAD_REQUESTS = (InvalidArgumentError, InvalidEmbeddingError, InvalidThresholdError)


@dataclass(frozen=True)
class Settings:
    """What a model is told when it is loaded.

    Attributes:
        folder: Folder of the model's version.
        parameters: Parameters of the model's configuration, as text.
    """

    folder: Path
    parameters: dict[str, str]

    @classmethod
    def of(cls, arguments: dict[str, str]) -> Settings:
        """Read the arguments of `initialize`."""
        config = json.loads(arguments["model_config"])
        parameters = {key: str(entry["string_value"]) for key, entry in config.get("parameters", {}).items()}
        return cls(Path(arguments["model_repository"]) / arguments["model_version"], parameters)

    @property
    def default_threshold(self) -> float | None:
        """The threshold of requests that bring none; None where none is set. Raises ArtifactFormatError."""
        text = self.parameters.get(DEFAULT_THRESHOLD)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= 1.0:
            raise ArtifactFormatError(f"the parameter {DEFAULT_THRESHOLD} is a number in [0, 1], found {text!r}")
        return value


class RequestModel:
    """A model of Triton's Python backend that answers each request by itself, or fails it by itself."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. Triton shows the error if it raises."""
        self.pb = importlib.import_module("triton_python_backend_utils")
        _check_arrays(self.pb)
        self.load(Settings.of(args))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer a batch of requests, in their order."""
        answers: list[Any] = [None] * len(requests)
        good: list[tuple[int, Any]] = []
        for index, request in enumerate(requests):
            content = self._read(request)
            if isinstance(content, Exception):
                answers[index] = self._failure(content)
            else:
                good.append((index, content))
        for (index, _), answer in zip(good, self._answered([content for _, content in good]), strict=True):
            answers[index] = self._failure(answer) if isinstance(answer, Exception) else self._response(answer)
        return answers

    def load(self, settings: Settings) -> None:
        """Load what the model needs."""
        raise NotImplementedError

    def read(self, request: Any) -> Any:
        """Return what a request asks, or raise what is wrong with it."""
        raise NotImplementedError

    def answer(self, contents: Sequence[Any]) -> list[dict[str, NDArray[Any]]]:
        """Return the output tensors, by name, of each of some requests. Raises if any of them cannot be answered."""
        raise NotImplementedError

    def tensor(self, request: Any, name: str) -> NDArray[Any] | None:
        """Return a request's input, None where it has none of that name."""
        found = self.pb.get_input_tensor_by_name(request, name)
        return None if found is None else np.asarray(found.as_numpy())

    def prompts(self, request: Any) -> list[str] | None:
        """Return a request's prompts, None where it has none."""
        values = self.tensor(request, PROMPT)
        return None if values is None else texts_of(values)

    def _read(self, request: Any) -> Any:
        try:
            return self.read(request)
        except Exception as error:  # noqa: BLE001 - whatever a request does, the others are answered
            return error

    def _answered(self, contents: Sequence[Any]) -> Iterable[dict[str, NDArray[Any]] | Exception]:
        if not contents:
            return []
        try:
            return self.answer(contents)
        except Exception as error:  # noqa: BLE001 - told apart one by one
            if len(contents) == 1:
                return [error]
        # Rare: whose fault it is only shows one by one. Win rates do not depend on the batch.
        return [answer for content in contents for answer in self._answered([content])]

    def _response(self, outputs: dict[str, NDArray[Any]]) -> Any:
        return self.pb.InferenceResponse([self.pb.Tensor(name, values) for name, values in outputs.items()])

    def _failure(self, error: Exception) -> Any:
        kinds = self.pb.TritonError
        code = kinds.INVALID_ARG if isinstance(error, _BAD_REQUESTS) else kinds.INTERNAL
        text = str(error) if isinstance(error, RouteLLMError) else f"{type(error).__name__}: {error}"
        return self.pb.InferenceResponse(error=self.pb.TritonError(text, code))


@dataclass(frozen=True)
class _Question:
    """n rows of one request: prompts or embeddings, thresholds, and whether win rates alone are wanted."""

    prompts: list[str] | None
    embeddings: FloatArray | None
    thresholds: NDArray[np.float32] | None
    wants_decisions: bool

    def __len__(self) -> int:
        return len(self.prompts if self.prompts is not None else self.embeddings)  # type: ignore[arg-type]


class RouterModel(RequestModel):
    """A router of any kind, as it runs in any other process: the same win rates and decisions, bitwise."""

    def load(self, settings: Settings) -> None:
        """Load the router directory that the parameters name."""
        parameters = settings.parameters
        runtime: dict[str, Any] = {}
        if parameters.get(DEVICE, "auto") != "auto":
            runtime["device"] = parameters[DEVICE]
        if parameters.get(THREADS):
            runtime["threads"] = _count(parameters[THREADS])
        directory = settings.folder / parameters.get(ROUTER_DIRECTORY, ROUTER_FOLDER)
        strong, weak = parameters.get(STRONG_MODEL), parameters.get(WEAK_MODEL)
        self._router = load_router(
            directory,
            strong_model=strong,
            weak_model=weak,
            digest=parameters.get(DIRECTORY_DIGEST),
            allow_server=parameters.get(ALLOW_SERVER),
            **runtime,
        )
        self._threshold = settings.default_threshold
        if self._threshold is None:
            with suppress(InvalidArgumentError):  # no calibration: requests have to bring a threshold
                self._threshold = self._router.default_threshold

    def read(self, request: Any) -> _Question:
        """Return the rows of a request."""
        prompts, embeddings = self.prompts(request), self.tensor(request, EMBEDDING)
        if (prompts is None) == (embeddings is None):
            raise InvalidArgumentError(
                f"a request holds either {PROMPT} or {EMBEDDING}, found {'neither' if prompts is None else 'both'}"
            )
        if embeddings is not None and not np.isfinite(embeddings).all():
            row, column = np.argwhere(~np.isfinite(embeddings))[0]
            raise InvalidEmbeddingError(
                f"{EMBEDDING}: row {row}, column {column} is {embeddings[row, column]}: expected finite values"
            )
        wants_decisions = bool({IS_STRONG, MODEL} & set(request.requested_output_names()))
        thresholds = thresholds_of(self.tensor(request, THRESHOLD))
        if wants_decisions and thresholds is None and self._threshold is None:
            raise _no_threshold()
        question = _Question(prompts, embeddings, thresholds, wants_decisions)
        if question.thresholds is not None and len(question.thresholds) != len(question):
            raise InvalidArgumentError(
                f"{len(question.thresholds)} thresholds for {len(question)} rows: expected one for each"
            )
        return question

    def answer(self, contents: Sequence[_Question]) -> list[dict[str, NDArray[Any]]]:
        """Score all rows of all requests together, for each threshold once."""
        groups: dict[tuple[bool, float | None], list[tuple[int, int]]] = {}
        for place, question in enumerate(contents):
            for row in range(len(question)):
                threshold = None
                if question.wants_decisions:
                    given = question.thresholds
                    threshold = self._threshold if given is None else float(given[row])
                groups.setdefault((question.prompts is not None, threshold), []).append((place, row))
        found = [_Answers(len(question), question.wants_decisions) for question in contents]
        for (is_text, threshold), rows in groups.items():
            for (place, row), scored in zip(rows, self._scored(contents, rows, is_text, threshold), strict=True):
                found[place].put(row, *scored)
        return [answers.tensors() for answers in found]

    def _scored(
        self, contents: Sequence[_Question], rows: Sequence[tuple[int, int]], is_text: bool, threshold: float | None
    ) -> Iterable[tuple[float, bool, str]]:
        """Return win rate, whether strong, and model of rows of one kind and one threshold."""
        router = self._router
        if is_text:
            prompts = [contents[place].prompts[row] for place, row in rows]  # type: ignore[index]
            if threshold is not None:
                decisions = router.route_batch(prompts, threshold, no_text="score")
                return [(decision.win_rate, decision.is_strong, decision.model) for decision in decisions]
            win_rates = router.win_rates(prompts)
        else:
            embeddings = np.stack([contents[place].embeddings[row] for place, row in rows])  # type: ignore[index]
            win_rates = _embedding_scorer(router)(np.ascontiguousarray(embeddings, dtype=np.float32))
        return decisions_of(router.model_pair, win_rates, threshold or 0.0)


class DecisionModel(RequestModel):
    """The end of an ensemble: from a graph's win rates to decisions."""

    def load(self, settings: Settings) -> None:
        """Read pair and threshold of the parameters."""
        parameters = settings.parameters
        try:
            self._pair = ModelPair(parameters[STRONG_MODEL], parameters[WEAK_MODEL])
        except KeyError as error:
            raise ArtifactFormatError(f"the configuration has no parameter {error}") from error
        self._threshold = settings.default_threshold

    def read(self, request: Any) -> tuple[FloatArray, NDArray[np.float32]]:
        """Return win rates and thresholds of a request."""
        win_rates = np.asarray(self.tensor(request, "win_rate"), dtype=np.float32).reshape(-1)
        if np.isnan(win_rates).any():
            row = int(np.argmax(np.isnan(win_rates)))
            raise InvalidArgumentError(
                f"row {row} has no win rate: its embedding has no similarity to any battle, or is not finite"
            )
        outside = first_outside(win_rates)
        if outside is not None:
            raise InvalidArgumentError(
                f"the graph's win rate of row {outside} is {win_rates[outside]:g}, expected 0 to 1: the graph is "
                "another one, or damaged"
            )
        given = thresholds_of(self.tensor(request, THRESHOLD))
        if given is not None:
            thresholds = given
        elif self._threshold is not None:
            thresholds = np.full(len(win_rates), float32_threshold(self._threshold))
        else:
            raise _no_threshold()
        if len(thresholds) != len(win_rates):
            raise InvalidArgumentError(f"{len(thresholds)} thresholds for {len(win_rates)} rows: expected one for each")
        # Outside [0, 1] by a rounding of the graph's precision only.
        return np.clip(win_rates, 0.0, 1.0), thresholds

    def answer(self, contents: Sequence[tuple[FloatArray, NDArray[np.float32]]]) -> list[dict[str, NDArray[Any]]]:
        """Decide."""
        result = []
        for win_rates, thresholds in contents:
            answers = _Answers(len(win_rates), wants_decisions=True)
            for row, (win_rate, threshold) in enumerate(zip(win_rates, thresholds, strict=True)):
                answers.put(row, *next(iter(decisions_of(self._pair, win_rate[None], float(threshold)))))
            result.append(answers.tensors())
        return result


class _Answers:
    """The output tensors of one request, (n, 1) each."""

    def __init__(self, count: int, wants_decisions: bool) -> None:
        self._win_rates = np.empty((count, 1), np.float32)
        self._is_strong = np.zeros((count, 1), np.bool_)
        self._models = np.empty((count, 1), np.object_)
        self._wants_decisions = wants_decisions

    def put(self, row: int, win_rate: float, is_strong: bool, model: str) -> None:
        self._win_rates[row, 0], self._is_strong[row, 0], self._models[row, 0] = win_rate, is_strong, model.encode()

    def tensors(self) -> dict[str, NDArray[Any]]:
        if not self._wants_decisions:
            return {WIN_RATE: self._win_rates}
        return {WIN_RATE: self._win_rates, IS_STRONG: self._is_strong, MODEL: self._models}


def texts_of(values: NDArray[Any]) -> list[str]:
    """Return a BYTES tensor as texts; what is no UTF-8 reads as U+FFFD, as in the core."""
    return [bytes(value).decode("utf-8", "replace") for value in values.reshape(-1)]


def thresholds_of(values: NDArray[Any] | None) -> NDArray[np.float32] | None:
    """Return a THRESHOLD tensor as (n,) float32. Raises InvalidThresholdError outside [0, 1]."""
    if values is None:
        return None
    thresholds: NDArray[np.float32] = values.reshape(-1).astype(np.float32)
    # Written so that NaN fails too.
    bad = ~((thresholds >= 0.0) & (thresholds <= 1.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidThresholdError(f"{THRESHOLD}: row {row} is {thresholds[row]}: expected a number in [0, 1]")
    return thresholds


def decisions_of(pair: ModelPair, win_rates: FloatArray, threshold: float) -> Iterable[tuple[float, bool, str]]:
    """Yield win rate, whether strong, and model."""
    for win_rate in win_rates.tolist():
        decision = decide(pair, win_rate, threshold)
        yield decision.win_rate, decision.is_strong, decision.model


def _no_threshold() -> InvalidArgumentError:
    return InvalidArgumentError(
        f"the request brings no {THRESHOLD}, and neither the parameter {DEFAULT_THRESHOLD} nor a calibration of the "
        "router says which one to use: send one, or set the parameter"
    )


def _embedding_scorer(router: Any) -> Callable[[FloatArray], FloatArray]:
    try:
        scorer: Callable[[FloatArray], FloatArray] = router.win_rates_from_embeddings
    except AttributeError:
        raise InvalidArgumentError(f"a {router.kind} router reads prompts, not embeddings: send {PROMPT}") from None
    return scorer


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArtifactFormatError(f"the parameter {THREADS} is an integer of at least 1, found {text!r}")
    return int(text)


def _check_arrays(pb: Any) -> None:
    """Refuse a Python backend that was built for numpy 1 where numpy 2 is installed.

    It reads the size of an element from where numpy 2 keeps something else: strings end the process, and results are
    empty.
    """
    if int(np.__version__.partition(".")[0]) < 2:
        return
    expected = np.arange(3, dtype=np.float32)
    found = np.asarray(pb.Tensor.from_dlpack("probe", expected.copy()).as_numpy())
    if found.tolist() != expected.tolist():
        raise ProviderUnavailableError(
            f"this release of Triton has a Python backend for numpy 1, but numpy {np.__version__} is installed: it "
            "would read garbage. Install 'numpy<2' beside it, take a newer release of Triton, or export with "
            "--mode native, which needs no Python"
        )
