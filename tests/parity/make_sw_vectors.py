"""Record what RouteLLM's own sw_ranking says, for tests/parity/test_sw_parity.py.

Run in an environment of its own (routellm 0.2.0 pins much and needs an OpenAI key to import, any text will do):

    pip install torch==2.13.0 routellm==0.2.0 scikit-learn==1.9.1
    OPENAI_API_KEY=unused LITELLM_LOCAL_MODEL_COST_MAP=True python tests/parity/make_sw_vectors.py

Its rating, tiers and calculate_strong_win_rate() run as they are; only the data sets and the embedding service are
replaced by arrays of ours. Embeddings are recorded as whole numbers between -127 and 127, which keeps the file small,
and scaled to float32 vectors of length one, as an embedding service gives them, but for one problem.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from routellm.routers import routers
from routellm.routers.similarity_weighted.utils import compute_elo_mle_with_tie, compute_tiers

HERE = Path(__file__).parent
QUERIES = 40


@dataclass
class Problem:
    """Battles, queries, and how they are routed.

    Attributes:
        names: m model names.
        embeddings: (n, dim) int8.
        model_a: (n,) index into names.
        model_b: (n,) index into names.
        winner: (n,) 0 model_a, 1 model_b, 2 tie.
        queries: (q, dim) int8.
        pairs: Ranks of the strong and the weak model among the rated ones, 0 best.
        num_tiers: Number of tiers.
        unit: Whether vectors are scaled to length one.
    """

    names: list[str]
    embeddings: np.ndarray
    model_a: np.ndarray
    model_b: np.ndarray
    winner: np.ndarray
    queries: np.ndarray
    pairs: tuple[tuple[int, int], ...] = ((0, 4), (2, 7))
    num_tiers: int = 10
    unit: bool = True


def scaled(vectors: np.ndarray, unit: bool) -> np.ndarray:
    """Float32 vectors, the same on every machine: each step is rounded as IEEE 754 wants."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide**2).sum(axis=1, keepdims=True))  # of an integer that a float64 holds exactly
    return (wide / lengths if unit else wide).astype(np.float32)


def whole_numbers(vectors: np.ndarray) -> np.ndarray:
    return np.rint(vectors * (127.0 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)


def draw(
    seed: int, battles: int, dim: int, models: int, *, ties: float = 0.3, mean: float = 0.5, skill: float = 0.35
) -> Problem:
    """Topics, models that differ in skill and by topic, and queries from the same source."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, dim)) + mean * 2.0
    topic = rng.integers(8, size=battles + QUERIES)
    vectors = centres[topic] + rng.normal(size=(len(topic), dim))
    skills = rng.normal(scale=skill, size=models)[:, None] + rng.normal(scale=skill / 3, size=(models, 8))
    popularity = 1.0 / (3.0 + np.arange(models))
    model_a = rng.choice(models, size=battles, p=popularity / popularity.sum())
    model_b = (model_a + rng.integers(1, models, size=battles)) % models
    gap = skills[model_a, topic[:battles]] - skills[model_b, topic[:battles]]
    winner = np.where(rng.random(battles) < 1.0 / (1.0 + 10.0**-gap), 0, 1)
    winner[rng.random(battles) < ties] = 2
    names = [f"model-{i:02}" for i in range(models)]
    return Problem(names, whole_numbers(vectors[:battles]), model_a, model_b, winner, whole_numbers(vectors[battles:]))


def problems() -> dict[str, Problem]:
    rng = np.random.default_rng(99)
    found = {"plain": draw(1, 900, 32, 12), "anchored name": draw(2, 1000, 24, 20)}
    found["forty models"] = draw(13, 1500, 16, 40)
    found["anchored name"].names[5] = "llama-2-70b-chat"

    found["any length"] = draw(3, 400, 24, 12)
    found["any length"].unit = False

    near = found["near duplicates"] = draw(4, 800, 24, 14)
    near.embeddings[400:500] = near.embeddings[:100]
    near.embeddings[500:600] = np.clip(near.embeddings[:100] + rng.integers(-2, 3, size=(100, 24)), -127, 127)
    near.queries[:10] = near.embeddings[:10]
    near.queries[10:25] = np.clip(near.embeddings[200:215] + rng.integers(-2, 3, size=(15, 24)), -127, 127)

    found["mostly within tiers"] = draw(5, 700, 24, 20, skill=0.15)
    found["mostly within tiers"].num_tiers = 3
    found["mostly within tiers"].pairs = ((0, 10), (1, 19), (0, 1))

    found["two tiers, uncorrelated"] = draw(6, 500, 24, 9, mean=0.0)
    found["two tiers, uncorrelated"].num_tiers = 2

    found["ties only"] = draw(7, 300, 24, 8, ties=1.0)
    found["no ties"] = draw(8, 600, 24, 10, ties=0.0)

    found["more tiers than models"] = draw(9, 500, 24, 6)
    found["more tiers than models"].pairs = ((0, 3), (1, 5))

    negative = found["all similarities negative"] = draw(10, 600, 24, 10, mean=1.0)
    negative.queries[:30] = -negative.queries[:30]

    # A single battle with a winner is refused by scikit-learn, which wants both classes.
    found["one battle, a tie"] = draw(11, 1, 24, 2, ties=1.0)
    found["one battle, a tie"].pairs = ((0, 1),)

    # Whoever stands earlier in the list wins: the likelihood has no finite maximum, RouteLLM stops somewhere.
    separated = found["separated"] = draw(12, 60, 24, 4, ties=0.0)
    separated.winner = (separated.model_a > separated.model_b).astype(int)
    separated.pairs = ((0, 1), (0, 3))
    return found


def routellms_answers(problem: Problem) -> dict[str, object]:
    frame = pd.DataFrame(
        {
            "model_a": [problem.names[i] for i in problem.model_a],
            "model_b": [problem.names[i] for i in problem.model_b],
            "winner": [("model_a", "model_b", "tie")[i] for i in problem.winner],
        }
    )
    ratings = compute_elo_mle_with_tie(frame)
    tiers = compute_tiers(ratings, num_tiers=problem.num_tiers)
    router = object.__new__(routers.SWRankingRouter)
    router.model2tier = tiers
    router.arena_df = frame.assign(model_a=frame["model_a"].map(tiers), model_b=frame["model_b"].map(tiers))
    router.arena_conv_embedding = scaled(problem.embeddings, problem.unit).astype(np.float64)
    router.embedding_model = "none"
    win_rates = {}
    for ranks in problem.pairs:
        router.strong_model, router.weak_model = (ratings.index[rank] for rank in ranks)
        rates = []
        for query in scaled(problem.queries, problem.unit).astype(np.float64):
            answer = SimpleNamespace(data=[SimpleNamespace(embedding=query.tolist())])
            create = SimpleNamespace(create=lambda answer=answer, **_: answer)
            routers.OPENAI_CLIENT = SimpleNamespace(embeddings=create)
            rates.append(float(router.calculate_strong_win_rate("prompt")))
        win_rates[f"{router.strong_model}|{router.weak_model}"] = rates
    return {
        "num_tiers": problem.num_tiers,
        "unit": problem.unit,
        "models": problem.names,
        "ratings": {name: float(rating) for name, rating in ratings.items()},
        "tiers": {name: int(tier) for name, tier in tiers.items()},
        "win_rates": win_rates,
    }


def main() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)  # penalty=None, which RouteLLM gives, is on its way out
    arrays, answers = {}, {}
    for name, problem in problems().items():
        answers[name] = routellms_answers(problem)
        for part in ("embeddings", "queries"):
            arrays[f"{name}/{part}"] = getattr(problem, part)
        for part in ("model_a", "model_b", "winner"):
            arrays[f"{name}/{part}"] = getattr(problem, part).astype(np.uint8)
    packages = ("routellm", "scikit-learn", "scipy", "pandas", "numpy")
    record = {"versions": {package: version(package) for package in packages}, "problems": answers}
    (HERE / "sw_vectors.json").write_text(json.dumps(record, indent=1) + "\n")
    np.savez_compressed(HERE / "sw_vectors.npz", **arrays)


if __name__ == "__main__":
    main()
