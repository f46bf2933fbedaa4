"""The measurements behind the report on transformers: bert, causal_llm, and cold starts of every kind."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import routellm_fast as rf
from benchmarks.harness import machine
from benchmarks.harness.peers import PeerMissingError
from benchmarks.harness.progress import say
from benchmarks.harness.prompts import prompts_at_hand
from benchmarks.harness.reports import Report
from benchmarks.startup import cold_start
from benchmarks.transformers import causal
from benchmarks.transformers.bert import BertBench
from routellm_fast.routers import CausalLLMRouter

TOKENS: Final = (16, 64, 256)
BATCHES: Final = (1, 8, 64)
# Tokens of a batch beyond which a turn of all contenders takes the better part of a minute.
_SMALL: Final = 2048


def measure(routers: Path | None, batches: Sequence[int], *, is_quick: bool) -> Report:
    """Measure everything; progress goes to standard error.

    Args:
        routers: Folder of trained routers. Its `causal_llm` is measured; without it the report says so.
        batches: Sizes of bert's batches, in texts.
        is_quick: Tiny rounds, and other sizes.
    """
    prompts = prompts_at_hand()
    before = machine.loads()
    report: Report = {"prompts": prompts.source, "missing": {}}
    # What cold starts load, and where graphs that have been optimized are kept.
    places = {"mf": "mf", "sw_ranking": "sw_ranking"}
    caches: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _measure_bert(report, folder, prompts.texts, batches, is_quick=is_quick)
        if "bert" in report:
            places["bert"], caches["bert"] = str(folder / "router"), folder / "cache"
        if routers is not None and (routers / "causal_llm").is_dir():
            places["causal_llm"] = str((routers / "causal_llm").resolve())
            _measure_causal(report, places["causal_llm"], prompts.texts, is_quick=is_quick)
        else:
            report["missing"]["causal_llm"] = "no trained router was given (--routers)"
        say("cold starts")
        report["cold_start"] = cold_start.measure(places, caches, 2 if is_quick else 3)
        report["machine"] = machine.describe()
        report["loads"] = {"before": before, "after": machine.loads()}
    return report


def _measure_bert(
    report: Report, folder: Path, prompts: Sequence[str], sizes: Sequence[int], *, is_quick: bool
) -> None:
    rounds, tokens, batches = (2, (16,), (1, 8)) if is_quick else (7, TOKENS, sizes)
    say("bert")
    try:
        bench = BertBench(folder, prompts)
    except PeerMissingError as error:
        report["missing"]["bert"] = str(error)
        return
    report["bert_quality"] = bench.quality(8 if is_quick else 64)
    report["bert_bytes"] = bench.bytes
    report["missing"] |= bench.missing
    report["bert"] = []
    for length in tokens:
        for batch in batches:
            say(f"bert, {length} tokens, batches of {batch}")
            report["bert"].append(bench.cell(length, batch, rounds if length * batch <= _SMALL else min(rounds, 2)))


def _measure_causal(report: Report, place: str, prompts: Sequence[str], *, is_quick: bool) -> None:
    say("causal_llm")
    router = rf.load_router(place, device="cpu")
    assert isinstance(router, CausalLLMRouter)
    chosen = [prompt for prompt in prompts[:: max(1, len(prompts) // 24)] if len(prompt) < 600]
    report["causal_llm"] = causal.measure(router, chosen[: 2 if is_quick else 4], 1 if is_quick else 2)
