"""Whole runs by the library's functions; tests/unit/cli/test_adapt.py has those of the command line."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routellm_fast import ArtifactWriteError, DataError, InvalidArgumentError, load_router
from routellm_fast.adaptation import adapting
from routellm_fast.adaptation.adapting import Wanted
from routellm_fast.adaptation.asking import AskJob
from routellm_fast.adaptation.cases import Case
from routellm_fast.adaptation.checking import checker_of
from routellm_fast.adaptation.collecting import Size
from routellm_fast.adaptation.command import RunJob, dry_run, run_on_labels, run_on_traffic, start
from routellm_fast.adaptation.folder import Kept, RunFolder
from routellm_fast.adaptation.goal import Goal
from routellm_fast.adaptation.proving import prove
from routellm_fast.routers.base import Router
from routellm_fast.thresholds.traffic import Traffic
from tests.support.adapt_traffic import PAIR, labels_of, prompts, scores

pytestmark = pytest.mark.usefixtures("no_pictures")


@cache
def shipped() -> Router:
    return load_router()


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "prove", functools.partial(prove, resamples=200, random_runs=5, deals=399))


def job(folder: Path, **fields: Any) -> RunJob:
    wanted = fields.pop("wanted", Wanted(shipped(), created="2026-12-01"))
    out = folder / "out"
    return RunJob(out, RunFolder.of_router(out), wanted, PAIR, "traffic", **fields)


def kept(folder: Path) -> Kept:
    found = job(folder).folder.read()
    assert found is not None
    return found


def cases(texts: list[str]) -> list[Case]:
    answers = [["right" if score else "wrong" for score in scores(text)] for text in texts]
    return [Case(text, text, "right", *both) for text, both in zip(texts, answers, strict=True)]


def ask(folder: Path) -> AskJob:
    return AskJob(PAIR, job(folder).folder.journal, checker=checker_of("exact"))


def test_a_run_keeps_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    result = run_on_labels(job(tmp_path, labelling={"labels.csv": "all of it"}), labels_of(prompts(200)))
    assert result.digest is not None
    assert [path.name for path in result.written] == ["report.html", "report.md", "verdict.json"]
    assert result.report.verdict.kind == "saves"
    assert result.report.labelling == {"labels.csv": "all of it"}
    assert sorted(path.name for path in (tmp_path / "out.adapt").iterdir()) == [
        "labels.jsonl", "report.html", "report.md", "run.json", "verdict.json",
    ]  # fmt: skip
    assert kept(tmp_path).labels.prompts == tuple(prompts(200))
    assert int(kept(tmp_path).is_untouched.sum()) == result.report.proof.prompts


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_on_labels(job(tmp_path / name), labels_of(prompts(120)))
    for name in ("out/router.json", "out/weights.safetensors", "out/README.md", "out.adapt/labels.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_near_duplicates_are_on_one_side(tmp_path: Path) -> None:
    texts = [form for text in prompts(100) for form in (text, f"{text.upper()}!!")]
    run_on_labels(job(tmp_path), labels_of(texts))
    sides = list(kept(tmp_path).sides.values())
    assert sides[::2] == sides[1::2]


def test_an_update_never_learns_from_what_proves_and_never_proves_by_what_was_learned(tmp_path: Path) -> None:
    run_on_labels(job(tmp_path), labels_of(prompts(100)))
    first = kept(tmp_path)
    # Near-duplicates of labels that are there, and new ones.
    more = [f"{text.upper()}.." for text in prompts(100)] + prompts(60, first=100)
    result = run_on_labels(job(tmp_path, update=True), labels_of(more))
    second = kept(tmp_path)
    assert len(second.labels) == 260
    for old, new in zip(prompts(100), more, strict=False):
        assert second.sides[old] == second.sides[new] == first.sides[old]
    assert result.report.replacement is not None
    assert result.report.replacement.prompts == int(second.is_untouched.sum())
    assert result.report.proof.labels == 260


def test_a_label_that_is_there_stays(tmp_path: Path) -> None:
    run_on_labels(job(tmp_path), labels_of(prompts(60)))
    changed = replace(labels_of(prompts(60)), strong=np.zeros(60))
    run_on_labels(job(tmp_path, update=True), changed)
    assert kept(tmp_path).labels.strong.tolist() == [1.0] * 60


def test_labels_are_kept_where_nothing_can_be_learned(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"too few.* The 10 labels so far are kept in .*out\.adapt"):
        run_on_labels(job(tmp_path), labels_of(prompts(10)))
    assert len(kept(tmp_path).labels) == 10
    assert not (tmp_path / "out").exists()


def test_answers_that_are_there_are_checked_without_a_call(tmp_path: Path) -> None:
    texts = prompts(100)
    traffic = Traffic.of([*texts, *texts[:30]])
    found, result = run_on_traffic(job(tmp_path), cases(texts), ask(tmp_path), Size(80), traffic)
    assert result is not None
    assert (found.asked.report.calls, len(found.labels)) == (0, 80)
    assert not ask(tmp_path).journal.exists()
    assert result.report.labelling["Prompts"] == "80 asked about, 80 labelled in 1 rounds"
    calibration = result.adapted.router.calibration
    assert calibration is not None


def test_the_threshold_may_be_found_on_another_traffic(tmp_path: Path) -> None:
    texts = prompts(100)
    other = Traffic.of([text for text in prompts(400, first=1000) if scores(text)[1] == 0.0])
    wanted = Wanted(shipped(), Goal("strong_share", 0.5))
    _, result = run_on_traffic(
        job(tmp_path, wanted=wanted), cases(texts), ask(tmp_path), Size(100), Traffic.of(texts), calibrated_on=other
    )
    assert result is not None
    share = (result.adapted.router.win_rates(other.prompts) >= result.adapted.threshold).mean()
    assert share == pytest.approx(0.5, abs=0.05)


def test_dry_run_make_no_file(tmp_path: Path) -> None:
    texts = prompts(100)
    found = dry_run(job(tmp_path), cases(texts), ask(tmp_path), Size(60), Traffic.of(texts))
    assert (found.prompts, found.outlook.labels, found.estimate.responses) == (100, 60, 0)
    assert list(tmp_path.iterdir()) == []


def test_places_are_checked_first(tmp_path: Path) -> None:
    start(job(tmp_path), has_costs=False)
    with pytest.raises(DataError, match="no earlier run to update"):
        start(job(tmp_path, update=True), has_costs=False)
    for inside in (tmp_path, tmp_path / "out", tmp_path / "out" / "deep" / "in"):
        with pytest.raises(InvalidArgumentError, match="beside one another"):
            start(replace(job(tmp_path), folder=RunFolder(inside)), has_costs=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactWriteError):
        start(job(tmp_path), has_costs=False)


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run_on_labels(job(tmp_path), labels_of(prompts(60)))
    other = replace(job(tmp_path), wanted=Wanted(shipped(), seed=5))
    with pytest.raises(InvalidArgumentError, match=r"seed 0 .* seed 5 .*--work"):
        start(other, has_costs=False)


def test_money_that_an_update_cannot_count_is_refused(tmp_path: Path) -> None:
    run_on_labels(job(tmp_path), labels_of(prompts(60)))
    wanted = Wanted(shipped(), requests_a_month=1000.0)
    with pytest.raises(InvalidArgumentError, match="what a month costs needs"):
        start(job(tmp_path, wanted=wanted, update=True), has_costs=True)
