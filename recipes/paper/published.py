"""The numbers of RouteLLM's paper: "RouteLLM: Learning to Route LLMs with Preference Data", arXiv 2406.18665 v4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from routellm_fast.evaluation.results import RANDOM

SOURCE: Final = "arXiv 2406.18665 v4, tables 1 (MT-Bench), 2 (MMLU) and 3 (GSM8K)"


class Published(NamedTuple):
    """A row of a table: CPT(50 %) and CPT(80 %) in percent, and APGR."""

    cpt50: float
    cpt80: float
    apgr: float


# By benchmark, kind of router and what it was trained on.
TABLES: Final[Mapping[str, Mapping[tuple[str, str], Published]]] = {
    "mmlu": {
        (RANDOM, ""): Published(50.07, 79.93, 0.500),
        ("bert", "arena"): Published(49.43, 77.80, 0.502),
        ("causal_llm", "arena"): Published(48.88, 77.93, 0.499),
        ("mf", "arena"): Published(45.00, 76.86, 0.524),
        ("sw_ranking", "arena"): Published(55.82, 80.25, 0.473),
        ("bert", "arena + gold"): Published(41.30, 72.20, 0.572),
        ("causal_llm", "arena + gold"): Published(35.49, 70.31, 0.600),
        ("mf", "arena + gold"): Published(35.46, 71.40, 0.597),
        ("sw_ranking", "arena + gold"): Published(35.40, 71.55, 0.603),
    },
    "gsm8k": {
        (RANDOM, ""): Published(50.00, 80.08, 0.497),
        ("bert", "arena"): Published(58.78, 83.84, 0.438),
        ("causal_llm", "arena"): Published(56.09, 83.56, 0.461),
        ("mf", "arena"): Published(53.59, 85.24, 0.4746),
        ("sw_ranking", "arena"): Published(54.43, 82.11, 0.4753),
        ("bert", "arena + judge"): Published(44.76, 79.09, 0.531),
        ("causal_llm", "arena + judge"): Published(33.64, 63.26, 0.622),
        ("mf", "arena + judge"): Published(38.82, 72.62, 0.565),
        ("sw_ranking", "arena + judge"): Published(41.21, 72.20, 0.568),
    },
    "mt_bench": {
        (RANDOM, ""): Published(49.03, 78.08, 0.500),
        ("bert", "arena"): Published(78.09, 87.64, 0.391),
        ("causal_llm", "arena"): Published(28.82, 77.53, 0.573),
        ("mf", "arena"): Published(25.32, 74.26, 0.580),
        ("sw_ranking", "arena"): Published(37.85, 58.99, 0.610),
        ("bert", "arena + judge"): Published(19.58, 34.02, 0.751),
        ("causal_llm", "arena + judge"): Published(31.50, 48.75, 0.679),
        ("mf", "arena + judge"): Published(13.40, 31.31, 0.802),
        ("sw_ranking", "arena + judge"): Published(23.21, 36.04, 0.759),
    },
}
