from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.harness.places import REPOSITORY, RESULTS
from benchmarks.harness.reports import command_of, read, splice_between

MARKERS = ("<!-- figures:begin -->", "<!-- figures:end -->")


def test_splicing_keeps_the_rest_and_can_be_repeated(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{MARKERS[0]}\nold\n{MARKERS[1]}\nafter\n", encoding="utf-8")
    splice_between(document, MARKERS, "new\n")
    once = document.read_text(encoding="utf-8")
    splice_between(document, MARKERS, "new\n")
    assert document.read_text(encoding="utf-8") == once
    assert once == f"before\n{MARKERS[0]}\nnew\n{MARKERS[1]}\nafter\n"


def test_splicing_needs_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("no markers\n", encoding="utf-8")
    with pytest.raises(ValueError, match="figures:begin"):
        splice_between(document, MARKERS, "text")


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a (report|file) that this command wrote"):
        read(path)


def test_a_report_names_a_command_that_exists() -> None:
    for recorded, command in (
        ("python benchmarks/measure_triton.py", "python -m benchmarks triton"),
        ("python benchmarks/transformers_report.py --batches 1 8", "python -m benchmarks transformers --batches 1 8"),
        ("python -m benchmarks report --quick", "python -m benchmarks report --quick"),
    ):
        assert command_of({"command": recorded}) == command


def test_no_page_names_a_script_that_is_gone() -> None:
    pages = [*RESULTS.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md"]
    named = {name for page in pages for name in re.findall(r"python (\S+\.py)", page.read_text(encoding="utf-8"))}
    assert [name for name in sorted(named) if name.startswith("benchmarks/") and not (REPOSITORY / name).exists()] == []
