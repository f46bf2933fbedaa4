"""A traffic on which the weak model fails at mathematics, and servers of both models and a judge."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from routellm_fast.adaptation.labels import Labels
from routellm_fast.decision import ModelPair
from tests.support.fake_judge import FakeJudge, Request, fair

PAIR = ModelPair("large", "small")
HARD = ("the proof of a theorem", "an integral", "an equation")
EASY = ("a poem about rain", "a greeting", "a shopping list")


def prompts(count: int, first: int = 0) -> list[str]:
    """Distinct prompts, hard and easy ones in turn."""
    topics = [topic for both in zip(HARD, EASY, strict=True) for topic in both]
    return [f"Write {topics[row % len(topics)]}, version {row}." for row in range(first, first + count)]


def is_hard(prompt: str) -> bool:
    return any(topic in prompt for topic in HARD)


def scores(prompt: str) -> tuple[float, float]:
    """What the two models' answers are worth: the strong model is always right, the weak one on easy prompts."""
    return 1.0, 0.0 if is_hard(prompt) else 1.0


def labels_of(texts: Sequence[str]) -> Labels:
    """The labels that a perfect judge gives."""
    strong, weak = np.array([scores(prompt) for prompt in texts]).T
    return Labels(PAIR, tuple(texts), tuple(texts), strong.copy(), weak.copy())


def write_scores(
    path: Path,
    texts: Sequence[str],
    pairs: Iterable[tuple[float, float]] | None = None,
    columns: dict[str, Sequence[object]] | None = None,
) -> Path:
    """A golden table."""
    found = list(map(scores, texts) if pairs is None else pairs)
    columns = columns or {}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", *PAIR, *columns])
        for row, (text, pair) in enumerate(zip(texts, found, strict=True)):
            writer.writerow([text, *pair, *(values[row] for values in columns.values())])
    return path


def write_lines(path: Path, records: Iterable[dict[str, object]]) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def answer(request: Request) -> str:
    """Both models, whose answers say how good they are, and a fair judge of that."""
    model = str(request.body["model"])
    if model not in PAIR:
        return fair(request)
    return f"quality {1 + 4 * int(scores(request.user)[list(PAIR).index(model)])} of {model}"


class Models(FakeJudge):
    """A server of both models and the judge."""

    def __init__(self) -> None:
        super().__init__(answer)

    @property
    def asked(self) -> Counter[tuple[str, str]]:
        """How often each model was asked each question."""
        with self._lock:
            return Counter((str(request.body["model"]), request.user) for request in self.requests)

    def asked_by(self, *names: str) -> int:
        return sum(count for (model, _), count in self.asked.items() if model in names)
