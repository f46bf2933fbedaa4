from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMANDS
from benchmarks.harness.command import CannotRunError, TimedReport, run
from benchmarks.harness.reports import Report

MARKERS = ("<!-- figures:begin -->", "<!-- figures:end -->")
SUBJECT = TimedReport(
    name="subject",
    about="A subject of this test.",
    measure=lambda options: {"machine": {}, "us": [1.5, 2.5] if options.quick else [3.0]},
    json_name=lambda _: "subject.json",
    page_name=lambda _: "subject.md",
    page=lambda report: f"page of {report['us']}\n",
    excerpt=lambda report: f"excerpt of {report['us']}\n",
    markers=MARKERS,
    settings=lambda _: " --size 3",
)


def never(_: argparse.Namespace) -> Report:
    raise AssertionError("measured, though the arguments are wrong")


def test_what_is_measured_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"{MARKERS[0]}\nold\n{MARKERS[1]}\n", encoding="utf-8")
    assert run(SUBJECT, ["--quick", "--out", str(tmp_path), "--document", str(document)]) == 0
    report = json.loads((tmp_path / "subject.json").read_text(encoding="utf-8"))
    assert report == {
        "command": "python -m benchmarks subject --quick --size 3",
        "effort": "quick",
        "file": "subject.json",
        "format_version": 1,
        "machine": {},
        "us": [1.5, 2.5],
    }
    assert (tmp_path / "subject.md").read_text(encoding="utf-8") == "page of [1.5, 2.5]\n"
    assert document.read_text(encoding="utf-8") == f"{MARKERS[0]}\nexcerpt of [1.5, 2.5]\n{MARKERS[1]}\n"
    assert "page of [1.5, 2.5]" in capsys.readouterr().out


def test_rendering_measures_nothing(tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    path.write_text('{"machine": {}, "us": [7]}', encoding="utf-8")
    assert run(replace(SUBJECT, measure=never), ["--render", str(path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "subject.md").read_text(encoding="utf-8") == "page of [7]\n"
    assert not (tmp_path / "subject.json").exists()


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--render", None, "No such file"),
        ("--render", "{", "holds no JSON"),
        ("--render", "{}", "is no report"),
        ("--document", "no markers", "figures:begin"),
    ],
)
def test_wrong_files_are_one_line_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, content: str | None, said: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert run(replace(SUBJECT, measure=never), [option, str(path), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_what_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(_: argparse.Namespace) -> Report:
        raise CannotRunError("needs a server: install one")

    assert run(replace(SUBJECT, measure=measure), ["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: needs a server: install one\n"


def test_a_failure_is_an_exit_code(tmp_path: Path) -> None:
    assert run(replace(SUBJECT, has_failed=lambda _: True), ["--out", str(tmp_path)]) == 1


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(COMMANDS[name][0]).main(["--help"])
    assert caught.value.code == 0
    assert f"python -m benchmarks {name}" in capsys.readouterr().out
