"""A router whose logits are written in the prompt, and golden labels to choose among."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routellm_fast import ModelPair
from routellm_fast.data import Labelled
from routellm_fast.pool import ModelPool, PoolModel
from routellm_fast.routers import MatrixFactorizationRouter

NAMES = ("large", "middle", "small")
COSTS = {"large": 10.0, "middle": 2.0, "small": 1.0}


class WrittenLogits:
    """Embeds "1 0.5 0" as these three numbers; words that are none are left out."""

    name = "written"
    fingerprint = "written"

    def __init__(self, dim: int = len(NAMES)) -> None:
        self.dim = dim

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = [[float(word) for word in text.split() if word[0] in "-.0123456789"] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dim)


def written_router(names: Sequence[str] = NAMES) -> MatrixFactorizationRouter:
    """A model's logit is its number in the prompt, to the bit."""
    identity = np.eye(len(names), dtype=np.float32)
    return MatrixFactorizationRouter(
        names,
        identity,
        identity,
        np.ones(len(names), dtype=np.float32),
        model_pair=ModelPair(names[0], names[-1]),
        embedder=WrittenLogits(len(names)),
    )


def written_pool(costs: dict[str, float] = COSTS, **options: object) -> ModelPool:
    models = [PoolModel(name, cost) for name, cost in costs.items()]
    return ModelPool(written_router(tuple(costs)), models, **options)  # type: ignore[arg-type]


def labelled(prompt: str, scores: Sequence[float], names: Sequence[str] = NAMES, **more: object) -> Labelled:
    """Scores in the order of names; NaN is a model that was not run."""
    found = {name: score for name, score in zip(names, scores, strict=True) if score == score}
    return Labelled(prompt, str(more.pop("group", prompt)), "table", found, **more)  # type: ignore[arg-type]
