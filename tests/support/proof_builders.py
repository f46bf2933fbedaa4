"""Labels of made-up traffics, and scores that know something of them or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from routellm_fast import ModelPair
from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.proving import ADAPTED, SHIPPED, Choice, Proof, prove

PAIR = ModelPair("large", "small")
NOISE = ("right or wrong", "few prompts", "mostly ties", "continuous", "one large group")
QUALITY = Choice("95 % of the strong model's quality", 0.5, 0.95)


def made_labels(strong: Any, weak: Any, groups: Any = None, costs_usd: Any = None, seed: int = 0) -> Labels:
    strong, weak = np.asarray(strong, dtype=np.float64), np.asarray(weak, dtype=np.float64)
    words = np.random.default_rng([seed, 7]).integers(1, 40, len(strong))
    return Labels(
        PAIR,
        tuple(f"{number} " + "word " * int(count) for number, count in enumerate(words)),
        tuple(str(group) for group in (range(len(strong)) if groups is None else groups)),
        strong,
        weak,
        None if costs_usd is None else np.asarray(costs_usd, dtype=np.float64),
    )


def noise(kind: str, seed: int) -> tuple[Labels, np.ndarray]:
    """A traffic, and a score that knows nothing of it."""
    rng = np.random.default_rng([seed, NOISE.index(kind)])
    groups = None
    count = {"few prompts": 40, "one large group": 160}.get(kind, 150)
    strong, weak = (rng.random(count) < 0.85).astype(float), (rng.random(count) < 0.6).astype(float)
    if kind == "mostly ties":
        strong, weak = np.ones(count), (rng.random(count) > 0.15).astype(float)
    if kind == "continuous":
        strong, weak = (np.clip(mean + 0.2 * rng.standard_t(3, count), 0.0, 1.0) for mean in (0.7, 0.55))
    score = rng.random(count)
    if kind == "one large group":
        # Prompts of the group have much the same score and the same chance.
        groups = np.concatenate([np.zeros(100, dtype=int), np.arange(1, 61)])
        strong[:100] = rng.random(100) < rng.random()
        weak[:100] = rng.random(100) < rng.random()
        score[:100] = rng.random() + 0.01 * rng.random(100)
    return made_labels(strong, weak, groups, seed=seed), score


def known_traffic(count: int = 400, knowledge: float = 1.0, seed: int = 0, **fields: Any) -> tuple[Labels, np.ndarray]:
    """A traffic on which hard prompts need the strong model, and a score in [0, 1] that knows how hard they are."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=count)
    strong = (rng.random(count) < 1.0 / (1.0 + np.exp(hard - 2.5))).astype(float)
    weak = (rng.random(count) < 1.0 / (1.0 + np.exp(3.0 * hard - 1.0))).astype(float)
    score = 1.0 / (1.0 + np.exp(-(knowledge * hard + 0.5 * rng.normal(size=count))))
    return made_labels(strong, weak, seed=seed, **fields), score


def quick_proof(untouched: Labels, score: np.ndarray, *choices: Choice, shipped: Any = None, **fields: Any) -> Proof:
    """A proof with fewer draws than a user's."""
    scores = {ADAPTED: score} if shipped is None else {ADAPTED: score, SHIPPED: np.asarray(shipped)}
    settings = {"resamples": 200, "random_runs": 20, "deals": 399, **fields}
    return prove(untouched, scores, choices or (QUALITY,), **settings)
