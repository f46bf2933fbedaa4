"""Tiny benchmarks and routers with known win rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routellm_fast import ModelPair
from routellm_fast.evaluation import Benchmark

PAIR = ModelPair("large", "small")


def made_benchmark(count: int = 200, seed: int = 0, **fields: object) -> Benchmark:
    rng = np.random.default_rng(seed)
    strong, weak = (rng.random(count) < 0.8).astype(float), (rng.random(count) < 0.5).astype(float)
    prompts = tuple(f"{number} " + "word " * int(n) for number, n in enumerate(rng.integers(1, 40, size=count)))
    return Benchmark(**{"name": "tiny", "prompts": prompts, "strong_quality": strong, "weak_quality": weak,
                        "max_quality": 1.0, "dropped": 0, "pair": PAIR, **fields})  # type: ignore[arg-type]  # fmt: skip


class TableRouter:
    """Win rates by prompt; counts how often it was asked."""

    kind = "table"

    def __init__(self, prompts: Sequence[str], win_rates: np.ndarray) -> None:
        self._win_rates = dict(zip(prompts, win_rates.tolist(), strict=True))
        self.calls = 0

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        self.calls += 1
        return np.array([self._win_rates[prompt] for prompt in prompts], dtype=np.float32)


def knowing_router(benchmark: Benchmark, share: float = 0.5, seed: int = 1) -> TableRouter:
    """Better than chance: part of the gain, part noise."""
    noise = np.random.default_rng(seed).random(len(benchmark.prompts))
    gains = benchmark.strong_quality - benchmark.weak_quality
    return TableRouter(benchmark.prompts, 0.4 + 0.1 * share * gains / benchmark.max_quality + 0.1 * noise)
