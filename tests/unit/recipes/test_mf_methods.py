from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from recipes.mf_methods import CASES, DESCENT, GAP, PARTS, markdown, part_of

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def test_the_page_is_that_of_the_numbers() -> None:
    found = json.loads((RESULTS / "mf_methods.json").read_text())
    assert list(found) == list(CASES)
    assert (RESULTS / "mf_methods.md").read_text() == markdown(found) + "\n"


def test_the_default_method_is_the_better_one() -> None:
    found = json.loads((RESULTS / "mf_methods.json").read_text())
    outcomes = [of[f"{GAP} less {DESCENT}"][3] for of in found.values()]
    gains = {method: np.mean([of["methods"][method]["gain"][0] for of in found.values()]) for method in (GAP, DESCENT)}
    assert gains[GAP] > gains[DESCENT]
    assert outcomes.count("better") > outcomes.count("worse")


def test_every_group_is_in_one_part() -> None:
    groups = [f"g{i // 3}" for i in range(600)]
    parts = part_of(groups)
    assert set(parts.tolist()) == set(range(PARTS))
    assert all(len(set(parts[k : k + 3].tolist())) == 1 for k in range(0, 600, 3))
