"""Fine-tune a transformer encoder as a `bert` router."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.decision import ModelPair
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import require
from routellm_fast.onnx.classifier import win_rate_module
from routellm_fast.onnx.from_torch import export_text_module
from routellm_fast.onnx.pretrained import PretrainedText, read_pretrained
from routellm_fast.onnx.tokens import TokenEncoder
from routellm_fast.routers.bert import BertRouter
from routellm_fast.training._bert_run import Rows, Run
from routellm_fast.training.deterministic import deterministic
from routellm_fast.training.held_out import held_out_battles, results_by_source
from routellm_fast.training.progress import OnProgress
from routellm_fast.training.sides import a_is_strong

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """How to fine-tune.

    Attributes:
        max_tokens: Most tokens of a prompt, in training and of the router; at most what the encoder reads.
        learning_rate: AdamW's; rises linearly over the first tenth of the steps, then falls linearly to 0.
        weight_decay: AdamW's, on matrices only.
        batch_size: Prompts a step.
        max_epochs: Passes over the prompts, at most.
        patience: Stop after this many epochs without a lower held-out loss.
        held_out_share: Expected share of prompt groups that are not trained on, in (0, 1).
        threads: Of torch. The same number gives the same bytes on one machine.
        seed: Of the classifier's initial weights, dropout, order and the held-out groups.
    """

    max_tokens: int = 256
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    max_epochs: int = 3
    patience: int = 1
    held_out_share: float = 0.1
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        counts = (self.batch_size, self.max_epochs, self.patience, self.threads)
        fits = all(count >= 1 for count in counts) and 0 < self.learning_rate <= 1 and 0 <= self.weight_decay <= 1
        if not fits or not 0.0 < self.held_out_share < 1.0 or self.max_tokens < 3:
            raise InvalidArgumentError(
                "counts are at least 1, max_tokens at least 3, learning rate above 0, weight decay at least 0, both at "
                f"most 1, and the held-out share lies between 0 and 1; found {self}"
            )
        if not 0 <= self.seed < 1 << 31:
            raise InvalidArgumentError(f"a seed is an integer in [0, 2^31), found {self.seed}")


@dataclass(frozen=True, slots=True, eq=False)
class TrainedBert:
    """What BertRouter takes, and how it came about.

    Attributes:
        model: The ONNX graph.
        tokenizer_json: The encoder's tokenizer.
        max_tokens: Most tokens of a prompt.
        pad_id: Token of the padding.
        metrics: JSON-able: counts, config, losses and accuracy by epoch, and held-out results by source.
    """

    model: bytes = field(repr=False)
    tokenizer_json: bytes = field(repr=False)
    max_tokens: int
    pad_id: int
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def router(self, *, model_pair: ModelPair, **common: Any) -> BertRouter:
        """Return the router; see BertRouter for the arguments."""
        return BertRouter(
            self.model,
            self.tokenizer_json,
            max_tokens=self.max_tokens,
            pad_id=self.pad_id,
            model_pair=model_pair,
            **common,
        )


def train(
    battles: Battles,
    base: str | Path,
    config: BertConfig | None = None,
    *,
    strong_models: frozenset[str],
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedBert:
    """Fine-tune an encoder to tell whether a strong model wins, ties or loses.

    The cross entropy of three classes is minimised with AdamW, and the epoch with the least on held-out prompt groups
    is kept. A target t in [0, 1], the share of the strong model's wins, stands for the classes max(0, 2t - 1), what is
    left, and max(0, 1 - 2t): a tie is one half. Battles on one prompt become one row with their mean. The same battles,
    base, config and torch give the same bytes on one machine.

    Args:
        battles: Each between a strong model and another.
        base: Folder of an encoder, or of a classifier of three classes to go on from.
        config: None for our own settings.
        strong_models: Which models of the battles are strong.
        checkpoint: A directory in which the state is kept after each epoch. Where there is one of the same training,
            that goes on from it, to the same bytes.
        on_progress: Called after each epoch, when its checkpoint is written.

    Raises:
        InvalidArgumentError: A battle is not between a strong and another model, nothing is left on one side of the
            split, or the training diverged.
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactError: The base cannot be read, or the checkpoint is damaged or cannot be written.
        MissingExtraError: torch, transformers or onnx is not installed.

    Source:
        The paper, section 4.1: a BERT classifier of the whole prompt. The classes are RouteLLM's.
    """
    config = config or BertConfig()
    torch = require("torch", "transformers")
    for name in ("transformers", "onnx", "onnxscript", "onnxruntime"):  # before the training, not after it
        require(name, "onnx" if name == "onnxruntime" else "transformers")
    source = read_pretrained(base)
    source = dataclasses.replace(source, max_tokens=min(source.max_tokens, config.max_tokens))
    out = held_out_battles(battles, config.held_out_share, seed=config.seed)
    rows = _rows(battles, strong_models, out, source)
    with deterministic(torch, config.threads):
        run = Run(torch, source, rows, config, checkpoint)
        found = run.fit(on_progress)
        graph = export_text_module(win_rate_module(found.model), output="win_rate", max_tokens=source.max_tokens)
    logits = _battle_logits(found.probabilities, battles, strong_models)
    metrics = {
        "battles": {"train": int((~out).sum()), "held_out": int(out.sum())},
        "prompts": len(battles.prompts),
        "prompt_groups": len(set(battles.groups)),
        "models": len(battles.models),
        "config": asdict(config),
        "base": source.folder.resolve().name if Path(base).is_dir() else str(base),
        "base_sha256": source.weights_sha256(),
        "epochs": found.epochs,
        "best_epoch": found.best_epoch,
        "held_out_by_source": results_by_source(battles, out, logits),
    }
    return TrainedBert(graph, source.tokenizer_json, source.max_tokens, source.pad_id, metrics)


def classes_of(target: NDArray[Any]) -> NDArray[np.float64]:
    """Return (n, 3) probabilities of strong wins, tie, weak wins for (n,) shares of the strong model's wins."""
    wide = np.asarray(target, dtype=np.float64)
    strong, weak = np.maximum(2.0 * wide - 1.0, 0.0), np.maximum(1.0 - 2.0 * wide, 0.0)
    return np.stack([strong, 1.0 - strong - weak, weak], axis=1)


def _rows(battles: Battles, strong_models: frozenset[str], out: NDArray[np.bool_], source: PretrainedText) -> Rows:
    target = np.where(a_is_strong(battles, strong_models), battles.target, 1.0 - battles.target)
    weight = np.zeros(len(battles.prompts))
    np.add.at(weight, battles.prompt, battles.weight)
    classes = np.zeros((len(battles.prompts), 3))
    np.add.at(classes, battles.prompt, classes_of(target) * battles.weight[:, None])
    held_out = np.zeros(len(battles.prompts), dtype=np.bool_)
    held_out[battles.prompt] = out  # a group, and so a prompt, is on one side as a whole
    tokens = TokenEncoder(source.tokenizer_json, source.max_tokens).encode(battles.prompts)
    return Rows(
        tokens=[np.array(ids, dtype=np.int64) for ids in tokens],
        classes=(classes / weight[:, None]).astype(np.float32),
        weight=(weight / weight.mean()).astype(np.float32),
        held_out=held_out,
    )


def _battle_logits(probabilities: FloatArray, battles: Battles, strong_models: frozenset[str]) -> FloatArray:
    """Log odds that model_a of each battle wins, a tie counting half, from (prompts, 3) class probabilities."""
    share = np.clip(probabilities[:, 0] + probabilities[:, 1] / 2.0, 1e-6, 1.0 - 1e-6).astype(np.float64)
    logits = np.log(share / (1.0 - share))[battles.prompt]
    sign = np.where(a_is_strong(battles, strong_models), 1.0, -1.0)
    result: FloatArray = (sign * logits).astype(np.float32)
    return result
