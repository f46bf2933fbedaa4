from __future__ import annotations

import dataclasses
import json
from html import escape
from pathlib import Path

import numpy as np
import pytest

from routellm_fast import ModelPair
from routellm_fast.adaptation.proving import Choice
from routellm_fast.adaptation.report import OUTPUTS, Report, markdown, page, write_report
from routellm_fast.adaptation.saving import monthly
from routellm_fast.adaptation.sentences import headline
from routellm_fast.adaptation.verdict import verdict_on
from routellm_fast.errors import DataError
from tests.support.proof_builders import QUALITY, known_traffic, made_labels, quick_proof
from tests.unit.evaluation.test_report import Page

HOSTILE = "<script>alert(1)</script>\x1b[2J|`*\u202e\ud800"


def made_report(**fields) -> Report:
    labels, score = known_traffic(200, costs_usd=np.tile([0.01, 0.001], (200, 1)))
    proof = quick_proof(labels, score, QUALITY, Choice("half", 0.5), shipped=score**2, all_labels=500)
    assert proof.points[0].money is not None
    how = {"Judge": "gpt-4o, both orders"}
    return Report(proof, "2026-01-01", "my-router", how, monthly(proof.points[0].money, 10_000, 12.0), **fields)


@pytest.fixture(scope="module")
def report() -> Report:
    return made_report()


@pytest.fixture(scope="module")
def drawn(report) -> str:
    """The page with its pictures, which take seconds."""
    pytest.importorskip("matplotlib")
    return page(report)


@pytest.fixture(scope="module")
def flat() -> Report:
    """No gap, hence no APGR and no picture."""
    score = np.linspace(0.0, 1.0, 60)
    return Report(quick_proof(made_labels(np.zeros(60), np.arange(60) % 2), score), "2026-01-01")


@pytest.mark.usefixtures("no_pictures")
def test_it_writes_three_files_and_leaves_others(report, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    files = write_report(report, tmp_path)
    assert tuple(file.name for file in files) == OUTPUTS
    assert {file.name for file in tmp_path.iterdir()} == {*OUTPUTS, "mine.txt"}


@pytest.mark.usefixtures("no_pictures")
def test_equal_reports_give_equal_bytes(report, tmp_path):
    for folder in ("one", "two"):
        write_report(made_report() if folder == "two" else report, tmp_path / folder)
    for name in OUTPUTS:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_pictures_are_the_same_each_time(report, drawn):
    assert page(made_report()) == drawn


@pytest.mark.usefixtures("no_pictures")
def test_everything_begins_with_the_verdict(report, flat):
    for one in (report, flat):
        first = headline(one.proof, verdict_on(one.proof))
        assert one.lines()[0] == first
        assert markdown(one).startswith(f"# {first}\n")
        body = page(one).partition("<body>")[2].lstrip()
        assert body.startswith(f"<header><h1>{escape(first)}</h1>")
        assert one.to_json()["headline"] == first


def test_the_page_is_whole_and_needs_nothing_else(drawn, flat):
    for text, pictures in ((drawn, 6), (page(flat), 0)):
        found = Page(text)
        assert found.outside == []
        assert "script" not in found.tags
        assert len(found.ids) == len(set(found.ids))
        assert set(found.references) <= set(found.ids)
        assert found.tags.count("svg") == pictures


def test_the_page_says_what_it_must(drawn):
    text = " ".join(Page(drawn).texts)
    for words in (
        "adapted router", "router as shipped", "prompt length", "random", "oracle", "best single model", "Calls saved",
        "Mixture's strong share", "Threshold", "0.500000", "half", "500, of which 200 were kept apart for this proof",
        "gpt-4o, both orders", "12.00 USD", "my-router", "Differences", "How to read this", "USD per 1,000 requests",
    ):  # fmt: skip
        assert words in text, words


def test_the_markdown_says_what_it_must(report):
    text = markdown(report)
    for words in (
        "| adapted router |",
        "| oracle |",
        "* Judge: gpt-4o, both orders",
        "0.500000",
        "my-router",
        "* Cost: 12",
    ):
        assert words in text, words


@pytest.mark.usefixtures("no_pictures")
def test_without_matplotlib_the_page_has_no_pictures_and_says_so(report):
    text = page(report)
    assert "matplotlib is not installed" in text
    assert "<svg" not in text
    assert "adapted router" in text


def test_without_a_gap_the_page_says_so(flat):
    for text in (page(flat), markdown(flat)):
        assert "APGR and the curves divide by what it is better by" in text


def test_what_comes_from_outside_is_escaped(report, tmp_path):
    proof = dataclasses.replace(report.proof, strong_model=HOSTILE, weak_model=HOSTILE)
    measured = dataclasses.replace(proof.measured, strong_model=HOSTILE, weak_model=HOSTILE)
    point = dataclasses.replace(proof.points[0], choice=Choice(HOSTILE, 0.5, 0.95))
    proof = dataclasses.replace(proof, measured=measured, points=(point,))
    hostile = Report(proof, "2026-01-01", HOSTILE, {HOSTILE: HOSTILE}, report.monthly)
    write_report(hostile, tmp_path)
    html, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    for written in (html, text, *hostile.lines()):
        assert "\x1b" not in written
        assert "\u202e" not in written
    assert "<script" not in html
    assert "<script" not in text
    assert all(line.isprintable() for line in (*hostile.lines(), *text.splitlines()))
    assert json.loads((tmp_path / "verdict.json").read_bytes())["router"] == HOSTILE.replace("\ud800", "?")


def test_a_router_of_a_hostile_name(tmp_path):
    labels, score = known_traffic(60)
    labels = dataclasses.replace(labels, pair=ModelPair("<b>large</b>", "sm|all"))
    write_report(Report(quick_proof(labels, score, Choice("<i>", 0.5)), ""), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>large" not in html
    assert "<i>" not in html


@pytest.mark.usefixtures("no_pictures")
def test_the_record_is_json_with_every_number(report, tmp_path):
    write_report(report, tmp_path)
    content = (tmp_path / "verdict.json").read_text(encoding="utf-8")

    def refused(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(content, parse_constant=refused)
    assert found["format_version"] == 1
    assert found["created"] == "2026-01-01"
    assert found["verdict"]["kind"] == verdict_on(report.proof).kind
    assert found["is_recommended"] is True
    assert list(found) == sorted(found)
    point = found["proof"]["points"][0]
    assert point["saved_calls"]["value"] == report.proof.points[0].saved_calls.value
    assert point["choice"]["threshold"] == 0.5
    assert set(found["proof"]["p_values"]) == {"adapted router", "router as shipped", "prompt length"}


def test_numbers_that_are_not_finite_become_null(report):
    odd = dataclasses.replace(report, monthly=dataclasses.replace(report.monthly, labelling_usd=float("inf")))
    assert odd.to_json()["monthly"]["labelling_usd"] is None


def test_a_folder_that_cannot_be_made(report, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_report(report, tmp_path / "file" / "report")
