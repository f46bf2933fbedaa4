"""The slow path that cannot be wrong: what every timed result is held against.

It reads a saved router directory by itself, tokenizes with Hugging Face's library and computes in float64. Only the
surface features come from our embedder; the project's tests compare those with plain Python.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

import routellm_fast as rf
from benchmarks.harness.figures import sigmoid

# A win rate this close to the threshold may fall on either side in float32.
DECISION_TOLERANCE = 1e-5


class TextReference:
    """From text to win rate in float64."""

    def __init__(self, router: rf.Router, folder: Path) -> None:
        """Save the router to `folder`, which must not exist, and read it. Raises ImportError without tokenizers."""
        from tokenizers import Tokenizer

        router.save(folder)
        manifest = json.loads((folder / "router.json").read_bytes())
        tensors = safetensors.numpy.load_file(folder / "weights.safetensors")
        self._router = router
        self.settings: dict[str, Any] = manifest["embedder"]["settings"]
        self.tokenizer_json = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(self.tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.settings["max_tokens"])
        self._unknown = self._tokenizer.token_to_id("[UNK]")
        self.table = _dense_table(tensors)
        self.vector = _folded(manifest["settings"], tensors)

    @property
    def token_dim(self) -> int:
        """How many of the embedding's dimensions are token dimensions; surface features follow."""
        return int(self.table.shape[1])

    def features(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return (n, features)."""
        return self._router.embedder.embed(prompts)[:, self.token_dim :].astype(np.float64)

    def token_embeddings(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return (n, token_dim): means of token vectors, of unit length where the embedder says so."""
        rows = np.zeros((len(prompts), self.token_dim))
        cut = [prompt[: self.settings["max_code_points"]] for prompt in prompts]
        for row, encoding in zip(rows, self._tokenizer.encode_batch(cut, add_special_tokens=False), strict=True):
            ids = [token for token in encoding.ids if token != self._unknown]
            if ids:
                row[:] = self.table[ids].mean(axis=0)
        if self.settings["normalize"]:
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return rows

    def win_rates(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return (n,)."""
        logits = self.token_embeddings(prompts) @ self.vector[: self.token_dim]
        return sigmoid(logits + self.features(prompts) @ self.vector[self.token_dim :])


def agreement(
    win_rates: NDArray[np.float64], is_strong: NDArray[np.bool_], reference: NDArray[np.float64], threshold: float
) -> dict[str, Any]:
    """Count decisions that differ from the reference's, and say how far the win rates are apart."""
    is_near = np.abs(reference - threshold) <= DECISION_TOLERANCE
    differs = is_strong != (reference >= threshold)
    return {
        "prompts": len(reference),
        "decisions_equal": int((~differs | is_near).sum()),
        "within_tolerance_of_threshold": int(is_near.sum()),
        "max_win_rate_difference": float(np.abs(win_rates - reference).max()),
        "strong_share": float(is_strong.mean()),
        "threshold": threshold,
    }


def _dense_table(tensors: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    table: NDArray[np.float64] = tensors["embedder.table"].astype(np.float64)
    if "embedder.column_scale" in tensors:
        table *= tensors["embedder.column_scale"]
    if "embedder.rows" in tensors:
        table = table[tensors["embedder.rows"]]
    if "embedder.weights" in tensors:
        table = table * tensors["embedder.weights"][:, None]
    return table


def _folded(settings: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    P, W, w = (tensors[name].astype(np.float64) for name in ("P", "W", "w"))
    unit = P / np.linalg.norm(P, axis=1, keepdims=True)
    strong, weak = (settings["models"].index(settings["scoring_pair"][role]) for role in ("strong", "weak"))
    return np.asarray(((unit[strong] - unit[weak]) * w) @ W)
