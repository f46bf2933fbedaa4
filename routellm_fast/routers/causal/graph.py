"""One pass of a causal language model as an ONNX graph: token ids in, win rate out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.extras import require
from routellm_fast.onnx.from_torch import export_text_module
from routellm_fast.onnx.text_graph import GRAPH_INPUTS
from routellm_fast.routers.causal.model import EXTRA, LanguageModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTPUT: Final = "win_rate"


def win_rate_graph(model: LanguageModel, *, score_ids: Sequence[int], score_threshold: int, max_tokens: int) -> bytes:
    """Return the graph of PrefillScorer's pass.

    Texts are padded on the left, so that the last position is the last token of each.

    Args:
        model: The language model; its weights go into the graph as float32.
        score_ids: Ids of the score tokens, in the order of their scores.
        score_threshold: Scores from here on say that the weak model will do.
        max_tokens: Most tokens of a text, the header included.

    Raises:
        OnnxModelError: torch cannot export this architecture, or the graph is above 2 GiB.
        MissingExtraError: torch, onnx or onnxscript is not installed.
    """
    module = win_rate_module(model, score_ids=score_ids, score_threshold=score_threshold)
    return export_text_module(module, output=OUTPUT, max_tokens=max_tokens, metadata={"padding": "left"})


def win_rate_module(model: LanguageModel, *, score_ids: Sequence[int], score_threshold: int) -> Any:
    """Return what the graph is made of: a torch module from ids and mask to (n,) win rates, 1.0 for no score."""
    torch = require("torch", EXTRA)
    language_model = model.moved(device="cpu", dtype="float32").module

    base: Any = torch.nn.Module

    class WinRate(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.language_model = language_model
            self.register_buffer("score_ids", torch.tensor(list(score_ids)))

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            output = self.language_model(
                input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False, logits_to_keep=1
            )
            logits = output.logits[:, -1].float()
            is_scored = (logits.argmax(-1, keepdim=True) == self.score_ids).any(-1)
            odds = torch.softmax(logits[:, self.score_ids], dim=-1)
            below = odds[:, : score_threshold - 1].sum(-1).clamp(max=1.0)
            return torch.where(is_scored, below, torch.ones_like(below))

    return WinRate().eval()


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> dict[str, NDArray[Any]]:
    """Return the graph's inputs: (n, longest) int64 ids and their mask, padded on the left."""
    length = max(map(len, rows), default=1)
    tokens = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        tokens[index, length - len(row) :] = row
        mask[index, length - len(row) :] = 1
    return dict(zip(GRAPH_INPUTS, (tokens, mask), strict=True))
