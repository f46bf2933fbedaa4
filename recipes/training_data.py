"""The data that the routers that ship are made of: files, their origins and licences, and what labels stand for.

All lie in `train/` of the data folder, but for NATURAL_PROMPTS, which lie in `prompts/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from routellm_fast import data
from routellm_fast.calibration import Calibration
from routellm_fast.decision import ModelPair
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.routers.base import Router
from routellm_fast.tables import read_table


class Origin(NamedTuple):
    """Where a file comes from, and under which licence."""

    source: str
    license: str


LICENSES: Final = frozenset({"apache-2.0", "cc-by-4.0", "mit"})
BATTLES: Final = {
    "battles_human.csv.gz": Origin(
        "votes of Chatbot Arena users on hard prompts and refusals; LLMFAO", "Apache-2.0, CC-BY-4.0"
    ),
    "battles_judge.csv.gz": Origin("Arena-bench v1, Vicuna-80 reviews, LLMFAO", "Apache-2.0, CC-BY-4.0"),
}
GOLDEN: Final = {
    "golden_routerbench.csv.gz": Origin("RouterBench, 0-shot: ARC-challenge, Winogrande, MBPP", "MIT"),
    "golden_mmlu_pro.csv.gz": Origin("MMLU-Pro, questions that are not in MMLU", "Apache-2.0"),
    "golden_llmrouter.csv.gz": Origin("LLMRouter, 13 tasks", "MIT"),
    "judge_scores_arena_bench.csv.gz": Origin("Arena-bench v1, points of GPT-4", "Apache-2.0"),
}
# Who plays for the pair in tables that lack one of its models: a pair with a like gap.
STAND_INS: Final = {
    "golden_mmlu_pro.csv.gz": ModelPair("gpt-4o-early", PAPER_PAIR.weak),
    "golden_llmrouter.csv.gz": ModelPair("llama-3.3-nemotron-super-49b-v1", "mistral-7b-instruct-v0.3"),
}
# The largest difference of two scores in each table: 1 for right or wrong, 9 for a judge's points.
SCORE_RANGE: Final = {"judge_scores_arena_bench.csv.gz": 9.0}
PROMPTS: Final = "prompts.csv.gz"
NATURAL_PROMPTS: Final = "natural_prompts.csv.gz"


def stand_in_of(file: str) -> ModelPair:
    """Return who plays for the pair in a table of golden labels."""
    return STAND_INS.get(file, PAPER_PAIR)


def natural_win_rates(router: Router, folder: Path) -> tuple[Any, Calibration]:
    """Return a router's win rates, (n,) float32, of real prompts to chat assistants, and the calibration by them."""
    prompts = [row.text("prompt") for row in read_table(folder / "prompts" / NATURAL_PROMPTS)]
    win_rates = router.win_rates(prompts)
    dataset = f"{NATURAL_PROMPTS}: real prompts to chat assistants"
    return win_rates, Calibration.from_win_rates(win_rates, dataset=dataset)


def record(origins: Mapping[str, Origin], folder: Path) -> dict[str, Any]:
    """Return what provenance keeps of the files: licences of the sources, and digests by name."""
    return {
        "licenses": sorted({origin.license for origin in origins.values()}),
        "files": {name: data.file_digest(folder / "train" / name) for name in sorted([*origins, PROMPTS])},
    }


def sources_table(origins: Mapping[str, Origin]) -> str:
    """Return the files as a Markdown table, for a model card."""
    lines = [f"| {origin.source} | {origin.license} | `{name}` |" for name, origin in origins.items()]
    return "\n".join(["| data | licence of the source | file |", "|---|---|---|", *lines])
