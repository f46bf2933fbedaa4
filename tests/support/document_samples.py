"""Files such as the documents' examples name, small enough to train on in a second."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from routellm_fast import OpenAIEmbedder
from routellm_fast.routers import MatrixFactorizationRouter

TASKS = {
    "maths": "Prove that {} is bounded by {} for every n.",
    "code": "Write a function that turns {} into {}.",
    "chat": "Tell me about {} and {}.",
    "mail": "Write a short mail about {} to {}.",
}
HARD = ("maths", "code")
WORDS = ("rivers", "trees", "cats", "series", "maps", "graphs", "tables", "friends", "trains", "bread", "primes")
COSTS = {"my-405b": 0.005, "my-70b": 0.0007, "my-8b": 0.0001}
SKILLS = {"my-405b": (0.95, 0.97), "my-70b": (0.85, 0.95), "my-8b": (0.3, 0.85)}


def write_samples(folder: Path) -> None:
    """Stronger models win on the hard tasks. No prompt is in two files."""
    rng = random.Random(0)
    numbers = iter(rng.sample(range(1000, 10_000), 9000))

    def prompts(count: int) -> list[tuple[str, str]]:
        tasks = list(islice(cycle(TASKS), count))  # every file has the same mix: two logs differ by chance alone
        return [(task, f"{TASKS[task].format(*rng.choices(WORDS, k=2))} Case {next(numbers)}.") for task in tasks]

    def golden(name: str, count: int, models: Sequence[str]) -> None:
        rows = []
        for task, prompt in prompts(count):
            scores = [int(rng.random() < SKILLS[model][task not in HARD]) for model in models]
            rows.append([prompt, task, *scores, *(COSTS[model] for model in models)])
        _csv(folder / name, ["prompt", "domain", *models, *(f"{model}|total_cost" for model in models)], rows)

    def log(name: str, count: int) -> None:
        messages = ([{"role": "user", "content": prompt}] for _, prompt in prompts(count))
        _jsonl(folder / name, ({"messages": message} for message in messages))

    def winner(task: str) -> str:
        if rng.random() < 0.2:
            return "tie"
        return "model_a" if rng.random() < (0.9 if task in HARD else 0.4) else "model_b"

    battles = [[prompt, "my-70b", "my-8b", winner(task)] for task, prompt in prompts(400)]
    _csv(folder / "battles.csv", ["prompt", "model_a", "model_b", "winner"], battles)
    for name in ("labels.csv", "checked.csv"):
        golden(name, 300, ("my-70b", "my-8b"))
    for name in ("table.csv", "exam.csv"):
        golden(name, 300, tuple(COSTS))
    for name in ("prompts.jsonl", "yesterday.jsonl"):
        log(name, 500)
    responses = (
        {"prompt": prompt, "response:my-70b": f"quality {3 + index % 3}", "response:my-8b": f"quality {index % 4}"}
        for index, (_, prompt) in enumerate(prompts(12))
    )
    _jsonl(folder / "responses.jsonl", responses)
    _checkpoint(folder / "mf_gpt4_augmented")
    models = [["my-405b", "5.0", ""], ["my-70b", "0.7", ""], ["our-finetuned-8b", "0.1", "my-8b"]]
    _csv(folder / "models.csv", ["model", "cost_usd_per_1k", "scored_as"], models)


def _checkpoint(folder: Path) -> None:
    """A small mf router as RouteLLM saves one, and a directory of it, as `routellm-fast import` makes it."""
    rng = np.random.default_rng(0)
    shapes = {"P.weight": (64, 4), "text_proj.0.weight": (4, 1536), "classifier.0.weight": (1, 4)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    MatrixFactorizationRouter.from_routellm(folder, embedder=OpenAIEmbedder()).save(folder.parent / "my-mf")


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _jsonl(path: Path, records: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
