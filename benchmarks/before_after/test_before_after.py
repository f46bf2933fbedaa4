"""The command that compares two versions: here one version with itself, on inputs of seconds."""

# ruff: noqa: RUF001 - multiplication signs and dashes are what a reader expects

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.before_after import command, inputs, measure
from benchmarks.before_after.figures import compare
from benchmarks.before_after.page import is_slower, page
from benchmarks.before_after.sides import AFTER, BEFORE
from benchmarks.harness.places import RESULTS
from benchmarks.harness.reports import Report, read
from benchmarks.harness.suites import MACHINE, committed
from benchmarks.similarity.workload import RankingTask, openai_like_battles


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = measure.Effort(
        prompts=16, embeddings=64, battles=(1_000,), queries=4, pairs=2, rounds=2, block_rounds=2, interpreters=1
    )
    monkeypatch.setattr(command, "QUICK", effort)

    def narrow_battles(count: int, queries: int) -> RankingTask:
        task = openai_like_battles(count, queries)
        return replace(task, embeddings=task.embeddings[:, :64].copy(), queries=task.queries[:, :64].copy())

    monkeypatch.setattr(inputs, "openai_like_battles", narrow_battles)


@pytest.mark.usefixtures("tiny")
def test_a_version_beside_itself_gives_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--before", sys.executable, "--after", sys.executable, "--after-label", "new", "--name", "itself"]
    assert command.main([*own, "--quick", "--out", str(tmp_path)]) == 0
    report = read(tmp_path / "itself.json")
    cases = report["cases"]
    names = {case["case"] for case in cases}
    assert {"import", "load_router('mf')", "load_router('sw_ranking')"} <= names
    precisions = ("float32", "int8", "moments")
    assert {f"sw_ranking, 1,000 battles, {precision}, one query a call" for precision in precisions} <= names
    texts = [case["percentile"] for case in cases if case["case"] == "text → decision, one prompt a call"]
    assert texts == ["p50", "p99"]
    # Fresh processes answer nothing.
    assert [case["has_same_bits"] for case in cases] == [None] * 3 + [True] * (len(cases) - 3)
    assert all(case["before_us"] > 0 and case["low"] <= case["ratio"] <= case["high"] for case in cases)
    assert report["sides"][BEFORE] == report["sides"][AFTER]
    text = (tmp_path / "itself.md").read_text(encoding="utf-8")
    assert text == page(report)
    assert "# before and new, side by side" in text
    assert sys.executable not in text + (tmp_path / "itself.json").read_text(encoding="utf-8")
    assert command.main(["--render", str(tmp_path / "itself.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "itself.md").read_text(encoding="utf-8") == text
    assert capsys.readouterr().out.count("# before and new, side by side") == 2


def test_the_committed_page_is_what_its_json_renders_to() -> None:
    assert (RESULTS / "one_engine.md").read_text(encoding="utf-8") == page(committed("one_engine.json"))


def test_a_ratio_is_that_of_rounds_side_by_side() -> None:
    rng = np.random.default_rng(0)
    busy = rng.uniform(1.0, 3.0, size=(41, 1))  # what else the machine did meets both
    before = 1_000.0 * busy * rng.uniform(0.99, 1.01, size=(41, 50))
    found = compare(before, 1.2 * before, 50.0)
    assert found["ratio"] == pytest.approx(1.2)
    assert (found["low"], found["high"]) == (pytest.approx(1.2), pytest.approx(1.2))
    assert found["before_us"] == pytest.approx(np.median(busy), rel=0.05)
    noisy = compare(before, 1_000.0 * rng.uniform(1.0, 3.0, size=(41, 50)), 50.0)
    assert noisy["high"] - noisy["low"] > 0.05


def test_times_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        compare(np.ones((2, 3)), np.ones((2, 4)), 50.0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.04, 1.1, "**yes**"), (0.9, 1.02, "no"), (0.99, 1.05, "unclear")]
)
def test_slower_is_said_only_where_the_interval_allows_it(low: float, high: float, verdict: str) -> None:
    assert is_slower({"low": low, "high": high}) == verdict


def test_differing_win_rates_and_editable_installations_stand_out() -> None:
    case: dict[str, Any] = {
        "case": "mf", "percentile": "p50", "before_us": 1.0, "after_us": 2.0, "ratio": 2.0, "low": 1.9, "high": 2.1,
        "has_same_bits": False, "pairs": 3, "items": 1,
    }  # fmt: skip
    side = {"version": "0.1.0", "python": "3.11.0", "numpy": "2.4.6", "isa": "avx2", "is_editable": True}
    report: Report = {
        "effort": "full", "labels": {BEFORE: "old", AFTER: "new"}, "missing": {}, "prompts": "natural prompts",
        "sides": {BEFORE: side | {"is_editable": False}, AFTER: side}, "cases": [case], "machine": MACHINE,
        "loads": {"before": [0.1], "after": [0.2]}, "command": "python -m benchmarks before-after",
    }  # fmt: skip
    text = page(report)
    assert "| mf | p50 | 1 | 2 | 2.000 (1.900 – 2.100) | **yes** | **no** | 3 × 1 |" in text
    assert text.count("An editable installation") == 1


@pytest.mark.parametrize("script", [None, "echo nothing here >&2; exit 1"])
def test_a_python_that_cannot_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str | None
) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
    arguments = ["--before", sys.executable, "--after", str(python), "--quick", "--out", str(tmp_path)]
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "--after" in said
    assert ("nothing here" in said) == (script is not None)


def test_both_pythons_are_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["--before", sys.executable, "--quick", "--out", str(tmp_path)]) == 2
    assert "--before and --after are both needed" in capsys.readouterr().err
