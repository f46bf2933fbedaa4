"""What both versions are given: prompts, embeddings and battles, as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.harness.prompts import Prompts
from benchmarks.mf.workload import matrix_factorization, unit_embeddings
from benchmarks.similarity.workload import NUM_TIERS, openai_like_battles


def write_text_inputs(folder: Path, prompts: Prompts, limit: int | None) -> None:
    """Write prompts in a fixed shuffle: the file is sorted by source, and traffic is not."""
    order = np.random.default_rng(0).permutation(len(prompts.texts))[:limit]
    texts = [prompts.texts[i] for i in order]
    (folder / "prompts.json").write_text(json.dumps(texts), encoding="utf-8")


def write_mf_inputs(folder: Path, embeddings: int) -> None:
    """Write a checkpoint of RouteLLM's shape, and embeddings of its width."""
    (folder / "mf").mkdir()
    matrix_factorization(folder / "mf")
    np.save(folder / "mf" / "embeddings.npy", unit_embeddings(embeddings))


def write_similarity_inputs(folder: Path, battles: int, queries: int) -> None:
    """Write battles as SimilarityWeightedRouter.build takes them, and queries."""
    task = openai_like_battles(battles, queries)
    np.save(folder / "embeddings.npy", task.embeddings)
    np.save(folder / "queries.npy", task.queries)
    arguments = {
        "model_a": list(task.model_a),
        "model_b": list(task.model_b),
        "winner": list(task.winner),
        "strong_model": task.strong,
        "weak_model": task.weak,
        "num_tiers": NUM_TIERS,
    }
    (folder / "battles.json").write_text(json.dumps(arguments), encoding="utf-8")
