"""Fine-tune a transformer encoder as a `bert` router."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast.data.battles import Battles
from routellm_fast.decision import ModelPair
from routellm_fast.extras import require
from routellm_fast.onnx.classifier import win_rate_module
from routellm_fast.onnx.from_torch import export_text_module
from routellm_fast.onnx.pretrained import read_pretrained
from routellm_fast.onnx.tokens import TokenEncoder
from routellm_fast.routers.bert import BertRouter
from routellm_fast.training._bert_run import PROBABILITIES, Rows, Run
from routellm_fast.training.configs import BertConfig
from routellm_fast.training.deterministic import deterministic
from routellm_fast.training.epoch_loop import run_epochs
from routellm_fast.training.pair_data import PairData
from routellm_fast.training.progress import OnProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    pair = PairData.of(battles, strong_models, config.held_out_share, seed=config.seed)
    tokens = TokenEncoder(source.tokenizer_json, source.max_tokens).encode(battles.prompts)
    rows = Rows(
        tokens=[np.array(ids, dtype=np.int64) for ids in tokens],
        classes=pair.prompt_means(classes_of(pair.strong_share())),
        weight=pair.prompt_weights(),
        held_out=pair.prompts_out(),
    )
    with deterministic(torch, config.threads):
        run = Run(torch, source, rows, config)
        found = run_epochs(
            run,
            max_epochs=config.max_epochs,
            patience=config.patience,
            checkpoint=run.checkpoint(checkpoint),
            on_progress=on_progress,
        )
        graph = export_text_module(win_rate_module(run.model.eval()), output="win_rate", max_tokens=source.max_tokens)
    probabilities = found.outputs[PROBABILITIES]
    share = probabilities[:, 0] + probabilities[:, 1] / 2.0
    metrics = {
        **pair.counts(),
        "config": asdict(config),
        "base": source.folder.resolve().name if Path(base).is_dir() else str(base),
        "base_sha256": source.weights_sha256(),
        "epochs": found.epochs,
        "best_epoch": found.best_epoch,
        "held_out_by_source": pair.results(share),
        "verdict": pair.verdict(probabilities[:, 0], share).to_json(),
    }
    return TrainedBert(graph, source.tokenizer_json, source.max_tokens, source.pad_id, metrics)


def classes_of(target: NDArray[Any]) -> NDArray[np.float64]:
    """Return (n, 3) probabilities of strong wins, tie, weak wins for (n,) shares of the strong model's wins."""
    wide = np.asarray(target, dtype=np.float64)
    strong, weak = np.maximum(2.0 * wide - 1.0, 0.0), np.maximum(1.0 - 2.0 * wide, 0.0)
    return np.stack([strong, 1.0 - strong - weak, weak], axis=1)
