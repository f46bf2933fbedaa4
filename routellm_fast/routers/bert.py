"""Sequence classifiers with three classes: strong wins, tie, weak wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import Artifact
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import ArtifactFormatError, EmbedderUnavailableError, InvalidArgumentError, OnnxModelError
from routellm_fast.onnx import OnnxSession, SessionOptions
from routellm_fast.onnx.text_graph import TextGraph, check_text_settings
from routellm_fast.routers.base import Router
from routellm_fast.scoring import first_outside

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
OUTPUT: Final = "win_rate"
CLASSES: Final = ("strong wins", "tie", "weak wins")


class BertRouter(Router):
    """A transformer that reads the prompt itself; one ONNX graph goes from token ids to the win rate.

    The win rate is 1 - (p(tie) + p(weak wins)) of the softmax over three classes. XLM-RoBERTa, BERT, MiniLM or any
    other sequence classifier of transformers becomes such a graph by `from_pretrained`, which needs torch; loading a
    router directory and scoring need onnxruntime only, and the `tokenizers` extra where the tokenizer is not BERT's.

    On the CPU a win rate has the same bits whatever else is in the batch, and however many threads there are. It agrees
    with torch's, without padding, within 1e-5.

    Source: RouteLLM's BERTRouter (routers/routers.py).
    """

    kind: ClassVar[str] = "bert"
    runtime_options: ClassVar[frozenset[str]] = frozenset(
        {
            "device",
            "threads",
            "allow_fallback",
            "optimized_cache",
            "cuda_graphs",
            "run_timeout_s",
            "allow_any_graph",
        }
    )

    def __init__(
        self,
        model: bytes,
        tokenizer_json: bytes,
        *,
        max_tokens: int,
        pad_id: int,
        model_pair: ModelPair,
        options: SessionOptions | None = None,
        model_sha256: str | None = None,
        **common: Any,
    ) -> None:
        """Load a graph.

        Args:
            model: ONNX, from int64 `input_ids` and `attention_mask` (prompts, tokens) to float32 `win_rate` (prompts,).
            tokenizer_json: The tokenizer.json of the model.
            max_tokens: Most tokens of a prompt, special ones included; longer prompts are cut there.
            pad_id: Id of the token that shorter texts are padded with.
            model_pair: The models that prompts are sent to; any names.
            options: Device and threads; None for the best device there is and all cores of the process.
            model_sha256: Digest of the graph where it is known already, to find it in optimized_cache.
            **common: calibration, provenance, model_card; see Router.

        Raises:
            OnnxModelError: The graph is damaged, or another one.
            ProviderUnavailableError: The device is not there.
            MissingExtraError: onnxruntime is not installed, or tokenizers where it is needed.
        """
        super().__init__(model_pair, **common)
        if self._embedder is not None or self._embedder_spec is not None:
            raise InvalidArgumentError("a bert router reads prompts itself: it takes no embedder")
        self._model, self._tokenizer_json = model, tokenizer_json
        self._max_tokens, self._pad_id = max_tokens, pad_id
        self._options = options or SessionOptions()
        self._graph = TextGraph(
            model,
            tokenizer_json,
            output=OUTPUT,
            output_rank=1,
            options=self._options,
            model_sha256=model_sha256,
            max_tokens=max_tokens,
            pad_id=pad_id,
        )

    @classmethod
    def from_pretrained(
        cls,
        dir_or_id: str | Path,
        *,
        strong_model: str = "gpt-4-1106-preview",
        weak_model: str = "mixtral-8x7b-instruct-v0.1",
        options: SessionOptions | None = None,
        **common: Any,
    ) -> BertRouter:
        """Read a sequence classifier as transformers writes it: config.json, model.safetensors, tokenizer.json.

        Args:
            dir_or_id: The folder, e.g. a copy of routellm/bert_gpt4_augmented, or its name on Hugging Face's hub.
            strong_model: Name of the strong model; the classifier knows no names.
            weak_model: Name of the weak model.
            options: Device and threads.
            **common: calibration, provenance, model_card; see Router.

        Raises:
            ArtifactNotFoundError, ArtifactFormatError: No such folder, or not of three classes, or weights are missing.
            OnnxModelError: torch cannot export the model.
            MissingExtraError: The extra `transformers` or `onnx` is not installed.
        """
        from routellm_fast.onnx.classifier import export_classifier  # torch

        made = export_classifier(dir_or_id)
        common.setdefault("provenance", {"source": made.source, "weights_sha256": made.weights_sha256})
        return cls(
            made.model,
            made.tokenizer_json,
            max_tokens=made.max_tokens,
            pad_id=made.pad_id,
            model_pair=ModelPair(strong_model, weak_model),
            options=options,
            **common,
        )

    @property
    def embedder(self) -> Embedder:
        """Raise EmbedderUnavailableError: a bert router has none."""
        raise EmbedderUnavailableError("a bert router has no embedder: its graph reads the prompt's tokens")

    @property
    def session(self) -> OnnxSession:
        """What runs the graph, e.g. to see its providers."""
        return self._graph.session

    @property
    def text_graph(self) -> TextGraph:
        """The graph with its tokenizer and buckets."""
        return self._graph

    @property
    def tokenizer_json(self) -> bytes:
        """The tokenizer."""
        return self._tokenizer_json

    @property
    def max_tokens(self) -> int:
        """Most tokens of a prompt that are read."""
        return self._max_tokens

    @property
    def pad_id(self) -> int:
        """Token of the padding."""
        return self._pad_id

    @property
    def facts(self) -> dict[str, Any]:
        """Graph, tokenizer and what runs them."""
        return {
            "graph bytes": len(self._model),
            "tokens read": self.max_tokens,
            "tokenizer": "native" if self._graph.tokens.is_native else "tokenizers library",
            "providers": list(self.session.providers),
        }

    def with_model(self, model: bytes, *, options: SessionOptions | None = None) -> BertRouter:
        """Return the same router with another graph, such as its int8 variant, or on another device.

        It is not calibrated: another graph has other win rates.
        """
        calibration = self._calibration if model == self._model else None
        return BertRouter(
            model,
            self._tokenizer_json,
            max_tokens=self._max_tokens,
            pad_id=self._pad_id,
            model_pair=self._model_pair,
            options=options or self._options,
            calibration=calibration,
            provenance=self._provenance,
            model_card=self._model_card,
        )

    def onnx_graph(self) -> bytes:
        """Return the graph, for an exporter."""
        return self._model

    def onnx_inputs(self, prompts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for prompts, all padded to one length."""
        return self._graph.inputs(prompts)

    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]."""
        return float(self.win_rates([prompt])[0])

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates.

        Raises:
            OnnxModelError: The graph failed, was stopped after run_timeout_s, or gives what is no win rate; the text
                names the prompt's index.
        """
        rows = np.array(self._graph.run(prompts), dtype=np.float32)
        first = first_outside(rows)
        if first is not None:
            raise OnnxModelError(
                f"the graph's win rate of prompt {first} is {rows[first]:g}, expected 0 to 1: the graph is another "
                "one, or damaged"
            )
        # 1 - (p1 + p2) in float32 may fall below 0 by a rounding.
        return np.clip(rows, 0.0, 1.0)

    def _read_whole(self, prompts: Sequence[str]) -> Sequence[bool]:
        return self._graph.tokens.reads_whole(prompts)

    def _settings(self) -> dict[str, Any]:
        return {"max_tokens": self._max_tokens, "pad_id": self._pad_id}

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {}

    def _runtime(self) -> dict[str, Any]:
        return {name: getattr(self._options, name) for name in self.runtime_options}

    def _shown(self) -> dict[str, Any]:
        return {"max_tokens": self._max_tokens, "providers": list(self.session.providers)}

    def _files(self) -> Mapping[str, bytes]:
        return {MODEL_FILE: self._model, TOKENIZER_FILE: self._tokenizer_json}

    @classmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> BertRouter:
        settings = artifact.manifest["settings"]
        check_text_settings(settings, "a bert router")
        missing = [name for name in (MODEL_FILE, TOKENIZER_FILE) if name not in artifact.files]
        if missing or artifact.tensors or artifact.manifest["embedder"] is not None:
            raise ArtifactFormatError(
                f"a bert router holds {MODEL_FILE} and {TOKENIZER_FILE}, neither tensors nor an embedder; found "
                f"{', '.join([*artifact.files, *artifact.tensors]) or 'nothing'}"
            )
        options = {name: common.pop(name) for name in cls.runtime_options if name in common}
        return cls(
            artifact.files[MODEL_FILE],
            artifact.files[TOKENIZER_FILE],
            **settings,
            model_pair=model_pair,
            options=SessionOptions(**options),
            model_sha256=artifact.file_sha256.get(MODEL_FILE),
            **common,
        )
