"""Sequence classifiers of transformers as graphs from token ids to a win rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import ArtifactFormatError
from routellm_fast.extras import require
from routellm_fast.onnx.from_torch import export_text_module
from routellm_fast.onnx.pretrained import CONFIG_FILE, load_model, read_pretrained

_CLASSES: Final = 3


@dataclass(frozen=True, slots=True)
class ClassifierGraph:
    """A graph with all that a bert router keeps.

    Attributes:
        model: ONNX.
        tokenizer_json: The model's tokenizer.json.
        max_tokens: Most tokens of a prompt.
        pad_id: Id of the token that shorter texts are padded with.
        source: Name of the folder it was made of.
        weights_sha256: Digest of that folder's weights; "" where they are in several files.
    """

    model: bytes
    tokenizer_json: bytes
    max_tokens: int
    pad_id: int
    source: str
    weights_sha256: str

    __repr__ = brief_repr


def export_classifier(dir_or_id: str | Path) -> ClassifierGraph:
    """Read a folder or hub repository and export it; see BertRouter.from_pretrained."""
    found = read_pretrained(dir_or_id)
    labels = found.config.get("id2label")
    if not isinstance(labels, dict) or len(labels) != _CLASSES:
        count = len(labels) if isinstance(labels, dict) else "no"
        raise ArtifactFormatError(
            f"{found.folder}/{CONFIG_FILE} names {count} classes in id2label: a bert router has three, strong wins, "
            "tie and weak wins"
        )
    classifier = load_model("AutoModelForSequenceClassification", found)
    model = export_text_module(win_rate_module(classifier), output="win_rate", max_tokens=found.max_tokens)
    name = found.folder.resolve().name if Path(dir_or_id).is_dir() else str(dir_or_id)
    return ClassifierGraph(model, found.tokenizer_json, found.max_tokens, found.pad_id, name, found.weights_sha256())


def win_rate_module(classifier: Any) -> Any:
    """Return a torch module from token ids and mask to the win rates of a classifier."""
    torch = require("torch", "transformers")

    base: Any = torch.nn.Module

    class WinRate(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            logits = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
            classes = torch.softmax(logits, dim=-1)
            return 1.0 - (classes[:, 1] + classes[:, 2])

    return WinRate().eval()
