from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import render
from budgets_similarity import compressed
from names import SW_INT8, SW_MOMENTS
from tables import bound, number

HERE = Path(__file__).resolve().parent
LATEST = HERE / "results" / "latest.md"


@pytest.fixture
def report() -> dict[str, object]:
    """The report that latest.md was made of."""
    if not LATEST.is_file():
        pytest.skip("no report is committed yet")
    name = re.search(r"\((\S+\.json)\)", LATEST.read_text(encoding="utf-8"))
    assert name is not None
    return json.loads((LATEST.parent / name[1]).read_text(encoding="utf-8"))


def test_the_committed_report_is_what_its_json_renders_to(report: dict[str, object]) -> None:
    assert LATEST.read_text(encoding="utf-8") == render.render(report)


def test_the_readme_shows_the_committed_report(report: dict[str, object]) -> None:
    content = (HERE.parent / "README.md").read_text(encoding="utf-8")
    if render.BEGIN not in content:
        pytest.skip("README.md has no place for the headline table")
    shown = content.partition(render.BEGIN)[2].partition(render.END)[0]
    assert shown.strip() == render.headline(report).strip()


def test_splicing_keeps_the_rest_and_can_be_repeated(report: dict[str, object], tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{render.BEGIN}\nold\n{render.END}\nafter\n", encoding="utf-8")
    render.splice(document, report)
    once = document.read_text(encoding="utf-8")
    render.splice(document, report)
    assert document.read_text(encoding="utf-8") == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once


def test_splicing_needs_the_markers(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("no markers\n", encoding="utf-8")
    with pytest.raises(ValueError, match="benchmark:begin"):
        render.splice_between(document, (render.BEGIN, render.END), "text")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.3214, "0.32"), (4.1, "4.1"), (5.0, "5"), (36.389, "36.4"), (1341.57, "1,342"), (150_000, "150,000"), (0, "0")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.48e-7, "2e-07"), (9.3e-8, "1e-07"), (0.0, "0"), (3e-7, "3e-07")])
def test_bounds_are_rounded_up(value: float, text: str) -> None:
    assert bound(value) == text


@pytest.mark.parametrize(
    ("int8", "moments", "chosen"),
    [
        ((1e-5, 900.0), (1e-4, 300.0), SW_MOMENTS),  # the faster one, as long as it is exact enough
        ((1e-5, 900.0), (2e-3, 300.0), SW_INT8),
        ((5e-3, 900.0), (2e-3, 300.0), SW_MOMENTS),  # none is: the more exact one, whose row then shows it
    ],
)
def test_a_speed_counts_only_with_its_exactness(
    int8: tuple[float, float], moments: tuple[float, float], chosen: str
) -> None:
    found = {SW_INT8: int8, SW_MOMENTS: moments}
    report = {
        "sw_quality": {"of": {name: {"max_difference_to_float32": away} for name, (away, _) in found.items()}},
        "sw_one": {"single_calls": {name: {"p50_us": taken} for name, (_, taken) in found.items()}},
    }
    assert compressed(report) == chosen
