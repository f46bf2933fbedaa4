"""Sentence encoders of transformers as graphs from token ids to embeddings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from routellm_fast.arrays import brief_repr
from routellm_fast.errors import ArtifactFormatError
from routellm_fast.extras import require
from routellm_fast.json_file import parse_json, read_json_object
from routellm_fast.onnx.from_torch import export_text_module
from routellm_fast.onnx.pretrained import load_model, read_pretrained

Pooling = Literal["mean", "cls"]
_LEAST_SQUARES: Final = 1e-24
_MODES: Final = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True, slots=True)
class EncoderGraph:
    """A graph with its tokenizer and limits; see OnnxEmbedder."""

    model: bytes
    tokenizer_json: bytes
    max_tokens: int
    pad_id: int

    __repr__ = brief_repr


def export_encoder(folder: Path) -> EncoderGraph:
    """Export an encoder folder.

    What sentence-transformers wrote beside the model is kept to: pooling by mean or by the first token, scaling to unit
    length, and the most tokens it reads. Without its files the mean is taken and scaled.

    Raises:
        ArtifactNotFoundError, ArtifactFormatError: A file is missing or damaged, or a step is not known here.
        OnnxModelError: torch cannot export the model.
        MissingExtraError: torch or transformers is not installed.
    """
    found = read_pretrained(folder)
    pooling, normalize = _steps(folder)
    path = folder / "sentence_bert_config.json"
    limit = read_json_object(path).get("max_seq_length") if path.is_file() else None
    if type(limit) is int and limit >= 1:
        found = dataclasses.replace(found, max_tokens=min(found.max_tokens, limit))
    encoder = load_model("AutoModel", found, optional="pooler.")
    model = export_text_module(
        embedding_module(encoder, pooling, normalize=normalize), output="embedding", max_tokens=found.max_tokens
    )
    return EncoderGraph(model, found.tokenizer_json, found.max_tokens, found.pad_id)


def embedding_module(encoder: Any, pooling: Pooling, *, normalize: bool) -> Any:
    """Return a torch module from token ids and mask to pooled vectors.

    Sums are written as products of matrices, one a text: ONNX Runtime adds up a reduction in another order when there
    is one text than when there are several.
    """
    torch = require("torch", "transformers")

    base: Any = torch.nn.Module

    class Embedding(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            if pooling == "cls":
                pooled = states[:, 0]
            else:
                weights = attention_mask.unsqueeze(1).to(states.dtype)
                pooled = (weights @ states / weights.sum(dim=2, keepdim=True).clamp(min=1.0)).squeeze(1)
            if not normalize:
                return pooled
            squares = pooled.unsqueeze(1) @ pooled.unsqueeze(2)
            return pooled / squares.squeeze(2).clamp(min=_LEAST_SQUARES).sqrt()

    return Embedding().eval()


def _steps(folder: Path) -> tuple[Pooling, bool]:
    path = folder / "modules.json"
    if not path.is_file():
        return "mean", True
    try:
        entries = parse_json(path.read_bytes(), path)
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in entries]
    except ArtifactFormatError:
        raise
    except (KeyError, TypeError) as error:
        raise ArtifactFormatError(f"{path} is no list of a sentence encoder's modules ({error!r})") from error
    names = [name for name, _ in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ArtifactFormatError(
            f"{path} has the modules {', '.join(names)}: known are Transformer, Pooling and then Normalize"
        )
    config_path = folder / Path(modules[1][1]).name / "config.json"
    config = read_json_object(config_path)
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise ArtifactFormatError(
            f"{config_path} pools by {', '.join(modes) or 'nothing'}: known are {', '.join(_MODES)}"
        )
    pooling: Pooling = "mean" if _MODES[modes[0]] == "mean" else "cls"
    return pooling, "Normalize" in names
