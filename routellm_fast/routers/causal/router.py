"""A causal language model that scores how well the weak model would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import Artifact
from routellm_fast.decision import ModelPair
from routellm_fast.errors import (
    ArtifactFormatError,
    ArtifactNotFoundError,
    InvalidArgumentError,
    UnsupportedExportError,
)
from routellm_fast.routers.base import Router
from routellm_fast.routers.causal.folder import CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE, Reference, fetched
from routellm_fast.routers.causal.loading import chat_renderer, load_files, load_folder
from routellm_fast.routers.causal.model import LanguageModel
from routellm_fast.routers.causal.prompt import (
    DEFAULT_CLASSIFIER,
    DEFAULT_SYSTEM,
    SCORE_TOKENS,
    PromptFormat,
    Truncation,
    has_llama3_turns,
)
from routellm_fast.routers.causal.scorer import PrefillScorer, Scoring, ScoringCounts
from routellm_fast.texts import check_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEFAULT_CLASSIFIER", "DEFAULT_SYSTEM", "CausalLLMRouter", "PromptFormat", "Scoring", "ScoringCounts"]

Store = Literal["copy", "reference"]
Style = Literal["auto", "routellm", "chat"]

# The files in which RouteLLM's checkpoints keep their two texts.
SYSTEM_FILE: Final = "system_ft_v5.txt"
CLASSIFIER_FILE: Final = "classifier_ft_v5.txt"
_ROUTELLM_PAIR: Final = ModelPair("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1")
_MAX_TOKENS: Final = 2048


class CausalLLMRouter(Router):
    """RouteLLM's `causal_llm`, by one pass: win rate = 1 - sum of p[score >= threshold] over the score tokens.

    A prompt for which the model names no score has the win rate 1.0, as in RouteLLM, and is counted (`counts`).
    `causal/scorer.py` says when one pass equals RouteLLM's generation, and what `faithful` does.

    One prompt a pass by default: its win rate then does not depend on the others, bitwise. torch sums in another order
    with another number of threads: across these, win rates agree within 1e-5 in float32.

    Source: section 4.2 of the paper; RouteLLM's CausalLLMClassifier (routers/causal_llm/model.py).
    """

    kind = "causal_llm"
    runtime_options = frozenset({"device", "dtype", "batch_size"})

    def __init__(
        self,
        model: LanguageModel,
        *,
        prompt_format: PromptFormat,
        scoring: Scoring | None = None,
        model_pair: ModelPair = _ROUTELLM_PAIR,
        batch_size: int = 1,
        **common: Any,
    ) -> None:
        """Put the parts together; `from_pretrained` reads them from a folder.

        Args:
            model: The language model; see load_folder.
            prompt_format: The text around a question: that of the fine-tuning.
            scoring: The rules; None for RouteLLM's.
            model_pair: The models that prompts are sent to.
            batch_size: Prompts a pass; see PrefillScorer.
            **common: calibration, provenance, model_card; see Router.

        Raises:
            InvalidArgumentError: The model has no score tokens, or no room for the text around a question.
        """
        super().__init__(model_pair, **common)
        self._scorer = PrefillScorer(model, prompt_format, scoring or Scoring(), batch_size=batch_size)

    @classmethod
    def from_pretrained(
        cls,
        directory_or_id: str | Path,
        *,
        tokenizer: str | Path | None = None,
        prompt_format: Style | PromptFormat = "auto",
        system: str | None = None,
        classifier: str | None = None,
        score_tokens: Sequence[str] = SCORE_TOKENS,
        score_threshold: int = 4,
        max_tokens: int | None = None,
        truncation: Truncation = "middle",
        faithful: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 1,
        store: Store = "copy",
        strong_model: str = _ROUTELLM_PAIR.strong,
        weak_model: str = _ROUTELLM_PAIR.weak,
    ) -> CausalLLMRouter:
        """Read a fine-tuned model: a folder of safetensors, a GGUF file, or a hub's repository.

        Args:
            directory_or_id: E.g. a copy of routellm/causal_llm_gpt4_augmented.
            tokenizer: The folder with the tokenizer, where the model's has none: RouteLLM's checkpoints use that of
                meta-llama/Meta-Llama-3-8B. Score tokens that it lacks are added behind its last one, as RouteLLM does.
            prompt_format: "routellm" (turns of Llama 3, the model writes the assistant's header), "chat" (the
                tokenizer's chat template), or a PromptFormat. auto is routellm where the tokenizer has Llama 3's turns.
            system: The system message of the fine-tuning; None reads system_ft_v5.txt beside the model.
            classifier: The user message, with `{question}`; None reads classifier_ft_v5.txt.
            score_tokens: See Scoring, as for score_threshold and truncation.
            score_threshold: Scores from here on mean the weak model.
            max_tokens: None: 2,048, or what the model can read.
            truncation: "middle" or "end".
            faithful: Also check the header, and decode step by step where the model would not write it.
            device: "auto", "cpu", "cuda" or "cuda:N"; auto takes CUDA where there is some.
            dtype: "float32", "bfloat16", "float16"; auto is float32 on a CPU, and as stored elsewhere.
            batch_size: Prompts a pass; see PrefillScorer.
            store: Whether `save` copies the model into the router directory (up to 4 GiB), or names its folder and
                digests, which are then checked on every load.
            strong_model: Name of the strong model; scores do not depend on it.
            weak_model: Name of the weak model.

        Raises:
            ArtifactNotFoundError: There is no model, no tokenizer, or no text that it was fine-tuned with.
            ArtifactFormatError: The model cannot be read.
            InvalidArgumentError: An argument breaks its rule, or the model was not fine-tuned to score prompts.
            ProviderUnavailableError: The device is not there.
            MissingExtraError: torch, transformers or, for GGUF, gguf is not installed.
        """
        if store not in ("copy", "reference"):
            raise InvalidArgumentError(f"store is copy or reference, found {store!r}")
        folder = fetched(directory_or_id)
        tokenizer_folder = None if tokenizer is None else Path(tokenizer)
        model = load_folder(folder, tokenizer=tokenizer_folder, device=device, dtype=dtype)
        model = (
            model if store == "copy" else LanguageModel(model.module, model.tokenizer, reference=Reference.of(folder))
        )
        known = set(model.tokenizer.get_vocab(with_added_tokens=True))
        lacking = [token for token in score_tokens if token not in known]
        if lacking and model.tokenizer.get_vocab_size() + len(lacking) <= model.output_rows:
            model.tokenizer.add_special_tokens(lacking)
        if not isinstance(prompt_format, PromptFormat):
            if prompt_format == "auto":
                prompt_format = "routellm" if has_llama3_turns(known) else "chat"
            texts = (
                _text(system, folder, SYSTEM_FILE, "system"),
                _text(classifier, folder, CLASSIFIER_FILE, "classifier"),
            )
            if prompt_format == "routellm":
                prompt_format = PromptFormat.routellm(*texts)
            elif prompt_format == "chat":
                prompt_format = PromptFormat.chat(*texts, chat_renderer(folder, tokenizer_folder))
            else:
                raise InvalidArgumentError(
                    f"prompt_format is auto, routellm, chat or a PromptFormat, found {prompt_format!r}"
                )
        return cls(
            model,
            prompt_format=prompt_format,
            scoring=scoring_for(
                model,
                score_tokens=tuple(score_tokens),
                score_threshold=score_threshold,
                max_tokens=max_tokens,
                truncation=truncation,
                faithful=faithful,
            ),
            model_pair=ModelPair(strong_model, weak_model),
            batch_size=batch_size,
            provenance={"source": "causal language model", "name": str(directory_or_id).rstrip("/").rpartition("/")[2]},
        )

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self._scorer.model

    @property
    def prompt_format(self) -> PromptFormat:
        """The text around a question."""
        return self._scorer.prompt

    @property
    def scoring(self) -> Scoring:
        """The rules of a score."""
        return self._scorer.scoring

    @property
    def score_ids(self) -> list[int]:
        """The ids of the score tokens."""
        return list(self._scorer.score_ids)

    @property
    def counts(self) -> ScoringCounts:
        """How many prompts were scored so far, and how. A router made by with_calibration counts with its original."""
        return self._scorer.counts

    @property
    def unscored_count(self) -> int:
        """Prompts for which the model named no score: their win rate was 1.0."""
        return self._scorer.counts.unscored

    @property
    def truncated_count(self) -> int:
        """Prompts whose question was too long and was cut."""
        return self._scorer.counts.truncated

    @property
    def facts(self) -> dict[str, Any]:
        """The model, and how it is read."""
        model, scoring = self.model, self.scoring
        return {
            "language model": f"{model.type_name}, {model.parameter_count:,} parameters",
            "runs": f"in {model.dtype} on {model.device}",
            "kept": "a copy" if model.reference is None else model.reference.path,
            "scores": f"{', '.join(scoring.score_tokens)}; from {scoring.score_threshold} on the weak model",
            "prompt": f"up to {scoring.max_tokens:,} tokens, cut in the question's {scoring.truncation}",
            "faithful": scoring.faithful,
        }

    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]. Raises ScoringError where a logit is not finite."""
        return float(self.win_rates([prompt])[0])

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates. Raises ScoringError where a logit is not finite."""
        return self._scorer.win_rates(check_texts(prompts))

    def rows(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that the model reads of each prompt."""
        return self._scorer.rows(check_texts(prompts))

    def onnx_graph(self) -> bytes:
        """Return the pass over a prompt as an ONNX graph in float32, for an exporter; it takes seconds.

        Raises:
            UnsupportedExportError: The router is faithful: decoding step by step is no graph.
            OnnxModelError: torch cannot export this architecture, or the graph is above 2 GiB.
            MissingExtraError: onnx or onnxscript is not installed.
        """
        if self.scoring.faithful:
            raise UnsupportedExportError(
                "a faithful causal_llm router decodes step by step where one pass is not enough, which is no graph: "
                "export as_faithful(False)"
            )
        from routellm_fast.routers.causal.graph import win_rate_graph

        return win_rate_graph(
            self.model,
            score_ids=self.score_ids,
            score_threshold=self.scoring.score_threshold,
            max_tokens=self.scoring.max_tokens,
        )

    def onnx_inputs(self, prompts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for prompts: token ids and their mask, padded on the left."""
        from routellm_fast.routers.causal.graph import padded

        return padded(self.rows(prompts), pad_id=0)  # masked: any token will do

    def on(self, *, device: str = "cpu", dtype: str = "auto", batch_size: int = 1) -> CausalLLMRouter:
        """Return the same router on another device, in another type or with other batches; its counts start anew.

        Raises:
            ProviderUnavailableError: The device is not there.
            InvalidArgumentError: An argument breaks its rule.
        """
        return self._with(self.model.moved(device=device, dtype=dtype), self.scoring, batch_size)

    def as_faithful(self, faithful: bool = True) -> CausalLLMRouter:
        """Return the same router with or without the check of the header."""
        return self._with(self.model, replace(self.scoring, faithful=faithful), self._scorer.batch_size)

    def _with(self, model: LanguageModel, scoring: Scoring, batch_size: int) -> CausalLLMRouter:
        return CausalLLMRouter(
            model,
            prompt_format=self.prompt_format,
            scoring=scoring,
            batch_size=batch_size,
            model_pair=self._model_pair,
            calibration=self._calibration,
            provenance=self._provenance,
            model_card=self._model_card,
        )

    def _settings(self) -> dict[str, Any]:
        reference = self.model.reference
        return {
            "prompt": asdict(self.prompt_format),
            "scoring": self.scoring.to_json(),
            "model": None if reference is None else reference.to_json(),
        }

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {}

    def _runtime(self) -> dict[str, Any]:
        return {"device": self.model.device, "dtype": self.model.dtype, "batch_size": self._scorer.batch_size}

    def _shown(self) -> dict[str, Any]:
        return {"model": self.model.type_name, "precision": self.model.dtype, "device": self.model.device}

    def _files(self) -> dict[str, bytes]:
        if self.model.reference is None:
            return self.model.files()
        return {TOKENIZER_FILE: self.model.tokenizer.to_str().encode()}

    @classmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> CausalLLMRouter:
        settings = artifact.manifest["settings"]
        if set(settings) != {"prompt", "scoring", "model"}:
            raise ArtifactFormatError(
                f"a causal_llm router's settings hold prompt, scoring and model, found {sorted(settings)}"
            )
        prompt, scoring = _parts(settings["prompt"], settings["scoring"])
        reference = None if settings["model"] is None else Reference.from_json(settings["model"])
        expected = {TOKENIZER_FILE} if reference else {CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE}
        if set(artifact.files) != expected or artifact.tensors or artifact.mapped:
            raise ArtifactFormatError(
                f"this causal_llm router's files are {', '.join(sorted(expected))}, found {sorted(artifact.files)}"
            )
        place = {name: common.pop(name) for name in ("device", "dtype") if name in common}
        if reference is None:
            model = load_files(artifact.files, **place)
        else:
            loaded = load_folder(reference.check(), tokenizer=artifact.files[TOKENIZER_FILE], **place)
            model = LanguageModel(loaded.module, loaded.tokenizer, reference=reference)
        return cls(model, prompt_format=prompt, scoring=scoring, model_pair=model_pair, **common)


def scoring_for(model: LanguageModel, *, max_tokens: int | None = None, **rules: Any) -> Scoring:
    """Return the rules with the model's own stop tokens; max_tokens None is 2,048, or what the model can read."""
    scoring = Scoring(stop_ids=model.stop_ids, max_tokens=max_tokens or _MAX_TOKENS, **rules)
    if max_tokens is None and model.max_positions is not None:
        room = model.max_positions - scoring.max_new_tokens + 1
        return replace(scoring, max_tokens=max(1, min(_MAX_TOKENS, room)))
    return scoring


def _parts(prompt: Any, scoring: Any) -> tuple[PromptFormat, Scoring]:
    for what, value, kind in (("prompt", prompt, PromptFormat), ("scoring", scoring, Scoring)):
        names = list(kind.__dataclass_fields__)
        if not isinstance(value, Mapping) or set(value) != set(names):
            raise ArtifactFormatError(f"a causal_llm router's {what} holds {', '.join(names)}")
    if not all(isinstance(scoring[name], list) for name in ("score_tokens", "stop_ids")):
        raise ArtifactFormatError("a causal_llm router's score_tokens and stop_ids are lists")
    lists = {name: tuple(scoring[name]) for name in ("score_tokens", "stop_ids")}
    return PromptFormat(**prompt), Scoring(**{**scoring, **lists})


def _text(given: str | None, folder: Path, file_name: str, what: str) -> str:
    if given is not None:
        return given
    path = (folder if folder.is_dir() else folder.parent) / file_name
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactNotFoundError(
            f"{path} cannot be read ({type(error).__name__}): a score depends on the very text that the model was "
            f"fine-tuned with. Give {what}=, or put the file there."
        ) from error
