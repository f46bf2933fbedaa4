"""The traffics on which adapting is measured: other people's requests, with how well two models answered them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from routellm_fast.adaptation.labels import Labels
from routellm_fast.adaptation.reading import read_scores
from routellm_fast.data import read_prompts
from routellm_fast.decision import ModelPair
from routellm_fast.evaluation.datasets import PAPER_PAIR, read_benchmarks

MIXTRAL: Final = PAPER_PAIR.weak
# Measured for RouteLLM's paper; looked at once, after everything was chosen.
EVALUATIONS: Final = ("mmlu", "gsm8k")


@dataclass(frozen=True, slots=True)
class Source:
    """A traffic.

    Attributes:
        name: Its name in reports.
        file: Where it lies in the data folder.
        pair: The two models.
        about: What its requests are, in a few words.
    """

    name: str
    file: str
    pair: ModelPair
    about: str


# Tables whose prompts are all of one group cannot be split, and are not among them.
SOURCES: Final = (
    Source(
        "LLMRouter",
        "train/golden_llmrouter.csv.gz",
        ModelPair("llama-3.3-nemotron-super-49b-v1", "mistral-7b-instruct-v0.3"),
        "13 tasks",
    ),
    Source(
        "LLMRouter, 51b and 9b",
        "train/golden_llmrouter.csv.gz",
        ModelPair("llama-3.1-nemotron-51b-instruct", "gemma-2-9b-it"),
        "13 tasks",
    ),
    Source("RouterBench", "train/golden_routerbench.csv.gz", ModelPair(*PAPER_PAIR), "3 tasks"),
    Source(
        "MMLU-Pro",
        "train/golden_mmlu_pro.csv.gz",
        ModelPair("llama-3.1-70b-instruct", "llama-3.1-8b-instruct"),
        "exams, 14 subjects",
    ),
    Source(
        "MMLU-Pro, GPT-4o", "train/golden_mmlu_pro.csv.gz", ModelPair("gpt-4o-early", MIXTRAL), "exams, 14 subjects"
    ),
    Source(
        "medical exams",
        "traffic/mirage_medical.csv.gz",
        ModelPair("gpt-4-32k", "gpt-3.5-turbo-16k"),
        "multiple choice, 4 exams",
    ),
    Source(
        "open questions",
        "traffic/evouna_openqa.csv.gz",
        ModelPair("gpt-4 (chat, 2023)", "text-davinci-003"),
        "short factual questions",
    ),
    Source("rule puzzles", "traffic/kor_bench.csv.gz", ModelPair("gpt-4o", "Mistral-7B-Instruct-v0.3"), "5 kinds"),
    Source(
        "hard mathematics",
        "traffic/zeroeval_math_l5.csv.gz",
        ModelPair("gpt-4o-2024-08-06", "gpt-3.5-turbo-0125"),
        "competition problems",
    ),
    Source(
        "code output", "traffic/zeroeval_crux.csv.gz", ModelPair("gpt-4-turbo-2024-04-09", MIXTRAL), "Python functions"
    ),
    Source(
        "common sense",
        "traffic/davinci_commonsense.csv.gz",
        ModelPair("text-davinci-003 plan-and-solve", "text-davinci-002 zero-shot-cot"),
        "3 sets of questions",
    ),
    Source(
        "code writing", "traffic/routerdc_code.csv.gz", ModelPair("dolphin-2.9-llama3-8b", "zephyr-7b-beta"), "3 sets"
    ),
)


def read(source: Source, data: Path) -> Labels:
    """Return a traffic's labels. Raises RouteLLMError."""
    prompts = read_prompts(data / "train" / "prompts.csv.gz") if source.file.startswith("train/") else None
    return read_scores(data / source.file, source.pair, prompts=prompts).labels


def read_evaluation(name: str, data: Path) -> Labels:
    """Return MMLU or GSM8K as if it were somebody's traffic. Raises RouteLLMError."""
    (found,) = read_benchmarks(data / "routellm_evals", names=(name,))
    # A few questions are there twice.
    first = np.unique(np.array(found.prompts, dtype=object).astype(str), return_index=True)[1]
    kept = found.select(np.sort(first).astype(np.intp))
    return Labels(kept.pair, kept.prompts, kept.prompts, kept.strong_quality, kept.weak_quality)
