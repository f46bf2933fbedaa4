"""A sequence classifier of 22 million parameters, from raw text to win rate, by number of tokens and size of batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from routellm_fast.export import export_onnx

from benchmarks.harness.figures import ratios
from benchmarks.harness.peers import those_present
from benchmarks.harness.turns import time_blocks
from benchmarks.transformers.names import FLOAT32, INT8, INT8_STATIC, PLAIN_RUNTIME, PRODUCTS, ROUTELLM_BERT, TORCH
from benchmarks.transformers.peers import (
    WinRates,
    agreement,
    bare_products,
    checkpoint,
    plain_runtime,
    routellm_bert,
    texts_of_tokens,
    torch_eager,
)
from routellm_fast.onnx import SessionOptions
from routellm_fast.routers import BertRouter

# Distinct texts of each length; batches go through them.
TEXTS: Final = 64
# A turn lasts at least about this long, so that a clock's grain is nothing.
_TURN_S: Final = 0.05


class BertBench:
    """One classifier in all forms. Raises PeerMissingError where not even the model is there."""

    def __init__(self, folder: Path, prompts: Sequence[str]) -> None:
        """Export it, and load the peers; those that are not installed stand in `missing` with the reason."""
        self.prompts = prompts
        self.made = checkpoint(folder / "checkpoint")
        options = SessionOptions(device="cpu", threads=1)
        router = BertRouter.from_pretrained(self.made.folder, options=options)
        router.save(folder / "router")
        graphs = {INT8: "int8", INT8_STATIC: "int8-static"}
        self.bytes: dict[str, int] = {FLOAT32: len(router.onnx_graph())}
        self.contenders: dict[str, WinRates] = {FLOAT32: router.win_rates}
        given = [prompt for prompt in prompts if len(prompt) < 1000][:64]
        for name, precision in graphs.items():
            out = folder / precision
            export_onnx(folder / "router", out, precision=precision, prompts=given, bound=1.0)
            content = (out / "model.onnx").read_bytes()
            self.bytes[name] = len(content)
            self.contenders[name] = router.with_model(content).win_rates
        peers, self.missing = those_present(
            {
                TORCH: lambda: torch_eager(self.made),
                ROUTELLM_BERT: lambda: routellm_bert(self.made),
                PLAIN_RUNTIME: lambda: plain_runtime(self.made, router.onnx_graph()),
            }
        )
        self.contenders |= peers

    def quality(self, count: int) -> dict[str, Any]:
        """Hold every contender against float32 on natural prompts."""
        short = [prompt for prompt in self.prompts if len(prompt) < 1000]
        chosen = short[:: max(1, len(short) // count)][:count]
        results = {
            name: np.concatenate([win_rates(chosen[start : start + 16]) for start in range(0, len(chosen), 16)])
            for name, win_rates in self.contenders.items()
        }
        return {"prompts": len(chosen), "to_float32": agreement(results, results[FLOAT32])}

    def cell(self, tokens: int, batch: int, rounds: int) -> dict[str, Any]:
        """Time batches of texts of a length: milliseconds a batch, contenders in turns."""
        texts = texts_of_tokens(tokens, TEXTS, self.prompts, self.made)
        batches = [texts[start : start + batch] for start in range(0, len(texts), batch)]
        calls = self._calls(batches)
        blocks: dict[str, Callable[[], Any]] = {
            name: _rotating(win_rates, batches, calls) for name, win_rates in self.contenders.items()
        }
        products = bare_products(self.made, tokens * batch)
        blocks[PRODUCTS] = lambda: [products() for _ in range(calls)]
        times = time_blocks(blocks, rounds=rounds, calls=calls)
        return {
            "tokens": tokens,
            "batch": batch,
            "rounds": rounds,
            "calls": calls,
            "ms": {name: float(np.median(found)) / 1e6 for name, found in times.items()},
            "ratio_to_float32": ratios(times, FLOAT32),
            "ratio_to_int8": ratios(times, INT8),
        }

    def _calls(self, batches: Sequence[list[str]]) -> int:
        """Return how many calls make a turn long enough, by the fastest contender, up to one of each batch."""
        taken = time_blocks({INT8: lambda: self.contenders[INT8](batches[0])}, rounds=1)[INT8][0]
        return int(np.clip(np.ceil(_TURN_S * 1e9 / taken), 1, len(batches)))


def _rotating(win_rates: WinRates, batches: Sequence[list[str]], calls: int) -> Callable[[], Any]:
    """Return a block of that many calls; every turn goes on with other batches."""
    place = 0

    def block() -> Any:
        nonlocal place
        for _ in range(calls):
            found = win_rates(batches[place % len(batches)])
            place += 1
        return found

    return block
