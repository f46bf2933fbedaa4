"""The benchmarks of RouteLLM's paper, from the layout of its `routellm/evals`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast._tables import Row, read_table
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError

PAPER_PAIR: Final = ModelPair("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
_MAX_JUDGE_SCORE: Final = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Benchmark:
    """Prompts and how well each model of a pair answered them, without the contaminated ones.

    Attributes:
        name: "mmlu", "gsm8k" or "mt_bench".
        prompts: n prompts.
        strong_quality: (n,) float64, in [0, max_quality].
        weak_quality: The same of the weak model.
        max_quality: 1 where answers are right or wrong, 10 where a judge gave points.
        dropped: How many prompts were left out, because training data of RouteLLM's routers held them.
    """

    name: str
    prompts: tuple[str, ...]
    strong_quality: NDArray[np.float64]
    weak_quality: NDArray[np.float64]
    max_quality: float
    dropped: int


def read_benchmarks(folder: Path, pair: ModelPair = PAPER_PAIR) -> tuple[Benchmark, ...]:
    """Read MMLU, GSM8K and MT-Bench.

    Args:
        folder: `routellm/evals` of a checkout of RouteLLM, or a folder of its layout.
        pair: Whose answers are compared; both must have a column.

    Raises:
        DataError: A file is missing or damaged; the text names file and line.
    """
    return read_mmlu(folder, pair), read_gsm8k(folder, pair), read_mt_bench(folder, pair)


def read_mmlu(folder: Path, pair: ModelPair = PAPER_PAIR) -> Benchmark:
    """Read `mmlu/responses/mmlu_<domain>.csv`. See read_benchmarks."""
    files = sorted((folder / "mmlu" / "responses").glob("mmlu_*.csv"))
    if not files:
        message = f"{folder / 'mmlu' / 'responses'} holds no mmlu_<domain>.csv"
        raise DataError(message)
    rows = (row for file in files for row in read_table(file))
    return _right_or_wrong("mmlu", rows, _contaminated(folder / "mmlu"), pair)


def read_gsm8k(folder: Path, pair: ModelPair = PAPER_PAIR) -> Benchmark:
    """Read `gsm8k/gsm8k_responses.csv`. See read_benchmarks."""
    rows = read_table(folder / "gsm8k" / "gsm8k_responses.csv")
    return _right_or_wrong("gsm8k", rows, _contaminated(folder / "gsm8k"), pair)


def read_mt_bench(folder: Path, pair: ModelPair = PAPER_PAIR) -> Benchmark:
    """Read `mt_bench/question.jsonl` and `judgements.jsonl`. See read_benchmarks.

    A question is routed on its first turn and counts the mean of its turns' scores. It is dropped when either turn is
    contaminated, as RouteLLM does.
    """
    contaminated = _contaminated(folder / "mt_bench")
    scores: dict[tuple[object, str], list[float]] = {}
    for row in read_table(folder / "mt_bench" / "judgements.jsonl"):
        score = row.number("score")
        if score is None or not 0.0 <= score <= _MAX_JUDGE_SCORE:
            problem = (
                f"a score lies in [0, {_MAX_JUDGE_SCORE:g}], found {score}: leave out what the judge could not rate"
            )
            raise row.error(problem)
        scores.setdefault((row.values.get("question_id"), row.text("model")), []).append(score)
    prompts: list[str] = []
    qualities: list[tuple[float, float]] = []
    dropped = 0
    for row in read_table(folder / "mt_bench" / "question.jsonl"):
        turns = row.values.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
            problem = f"'turns' must be a list of texts, found {turns!r}"
            raise row.error(problem)
        if contaminated.intersection(turns):
            dropped += 1
            continue
        question = row.values.get("question_id")
        missing = [model for model in pair if (question, model) not in scores]
        if missing:
            problem = f"judgements.jsonl has no score of {missing[0]!r} for question {question!r}"
            raise row.error(problem)
        prompts.append(turns[0])
        strong, weak = (float(np.mean(scores[question, model])) for model in pair)
        qualities.append((strong, weak))
    return _benchmark("mt_bench", prompts, qualities, _MAX_JUDGE_SCORE, dropped)


def _right_or_wrong(name: str, rows: Iterable[Row], contaminated: frozenset[str], pair: ModelPair) -> Benchmark:
    prompts: list[str] = []
    qualities: list[tuple[float, float]] = []
    dropped = 0
    for row in rows:
        prompt = row.text("prompt")
        if prompt in contaminated:
            dropped += 1
            continue
        strong, weak = (row.number(model) for model in pair)
        if strong not in (0.0, 1.0) or weak not in (0.0, 1.0):
            problem = f"expected True or False for {pair.strong!r} and {pair.weak!r}, found {strong} and {weak}"
            raise row.error(problem)
        prompts.append(prompt)
        qualities.append((strong, weak))
    return _benchmark(name, prompts, qualities, 1.0, dropped)


def _benchmark(
    name: str, prompts: list[str], qualities: list[tuple[float, float]], max_quality: float, dropped: int
) -> Benchmark:
    if not prompts:
        message = f"{name}: no prompt is left after dropping {dropped} contaminated ones"
        raise DataError(message)
    strong, weak = np.array(qualities, dtype=np.float64).T
    return Benchmark(name, tuple(prompts), strong, weak, max_quality, dropped)


def _contaminated(folder: Path) -> frozenset[str]:
    return frozenset(row.text("eval_prompt") for row in read_table(folder / "contaminated_prompts.jsonl"))
