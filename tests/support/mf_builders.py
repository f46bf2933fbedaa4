"""A few battles to train mf on, and settings that take a moment."""

from __future__ import annotations

import numpy as np

from routellm_fast import ModelPair, data
from routellm_fast.training import MatrixFactorizationConfig
from tests.support.builders import static_embedder

PAIR = ModelPair("s", "w")
EMBEDDER = static_embedder()
CONFIG = MatrixFactorizationConfig(
    d=4, learning_rate=0.02, batch_size=16, max_epochs=6, patience=2, held_out_share=0.3, noise=0.2, seed=3
)


def battles(count: int = 80, seed: int = 0) -> data.Battles:
    rng = np.random.default_rng(seed)
    words = ["prove", "the", "hello", "write", "a", "b", "c", "1"]
    rows = []
    for i in range(count):
        prompt = " ".join(rng.choice(words, size=rng.integers(2, 9))) + f" {i}"
        rows.append(data.Battle(prompt, f"g{i}", *PAIR, float("prove" in prompt), "own"))
        rows.append(data.Battle(prompt, f"g{i}", "other", "w", float(rng.random() < 0.5), "others"))
    return data.to_arrays(rows)
