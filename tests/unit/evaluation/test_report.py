from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from routellm_fast.errors import DataError, MissingExtraError
from routellm_fast.evaluation.report import check_report, write_report
from routellm_fast.evaluation.report.plot_curves import draw_quality
from routellm_fast.evaluation.report.plot_style import NARROW, RC
from routellm_fast.evaluation.report.plots import draw_plots
from routellm_fast.evaluation.results import Evaluation
from routellm_fast.evaluation.verdict import verdict_on
from routellm_fast.interval import Interval
from tests.support.report_samples import benchmark, evaluation

matplotlib = pytest.importorskip("matplotlib")

VOID = {"meta", "br", "link", "img", "input"}


class Page(HTMLParser):
    """Checks nesting, and collects ids, references and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.outside: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "aria-labelledby") and value:
                (self.references if value.startswith("#") or name == "aria-labelledby" else self.outside).append(
                    value.removeprefix("#")
                )
            if name == "src":
                self.outside.append(value or "")
            self.references += re.findall(r"url\(#([^)]*)\)", value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    folder = tmp_path_factory.mktemp("report")
    return folder, write_report(evaluation(), folder)


def test_it_writes_the_page_a_png_of_each_plot_and_the_record(written):
    folder, files = written
    assert [file.name for file in files] == [
        "report.html",
        "mmlu_quality.png",
        "mmlu_cost.png",
        "mmlu_win_rates.png",
        "mmlu_domains.png",
        "mt_bench_quality.png",
        "mt_bench_cost.png",
        "mt_bench_win_rates.png",
        "evaluation.json",
    ]
    assert {file.name for file in folder.iterdir()} == {file.name for file in files}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files if file.suffix == ".png")
    assert Evaluation.read(folder / "evaluation.json") == evaluation()


def test_the_page_is_whole_and_needs_nothing_else(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.outside == []
    assert "script" not in page.tags
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    # Every picture is drawn twice: for wide windows and for phones.
    assert page.tags.count("svg") == 14
    assert text.count('role="img"') == 14


def test_the_page_says_what_it_must(written):
    text = " ".join(Page((written[0] / "report.html").read_text(encoding="utf-8")).texts)
    for word in (
        "APGR, RouteLLM's code", "APGR, paper", "CPT(20 %)", "CPT(50 %)", "CPT(80 %)",
        "Saving in strong calls at CPT(50 %)",
        "Saving in dollars at CPT(80 %)", "random",
        "prompt length", "best single model", "oracle", "How to read this", "gpt-4-1106-preview", "72 prompts",
        "Intervals are wide", "5 left out because RouteLLM's training data held them",
        "no clear difference", "seed", "resamples", "ab" * 32,
        "domain_01_of_knowledge",
    ):  # fmt: skip
        assert word in text, word


def test_the_verdict_comes_first_with_its_thresholds(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    main = text[text.index("<main>") :]
    verdict = main[: main.index("</section>")]
    assert verdict.startswith('<main>\n<section id="verdict"><h2>Verdict</h2>')
    for result in evaluation().benchmarks:
        found = verdict_on(result)
        assert escape(found.headline) in verdict
        assert f"Thresholds of {found.router} on {result.name}" in verdict
        for setting in found.settings:
            assert f"<td>{setting.threshold_text}</td>" in verdict
    assert "<b>What to set:</b> threshold " in verdict
    assert "<b>What it saves:</b> " in verdict
    assert "<b>How sure:</b> APGR " in verdict
    assert "Thresholds of other routers" in main


def test_what_was_left_out_is_counted_once(tmp_path):
    result = dataclasses.replace(bare(), dropped=5, overlapping=6, unscored=7)
    sample = dataclasses.replace(bare_evaluation(), benchmarks=(result,))
    text = " ".join(Page(write_report(sample, tmp_path)[0].read_text(encoding="utf-8")).texts)
    for count in (5, 6, 7):
        assert text.count(f"{count} left out") == 1
    assert text.count("left out") == 3


def test_one_word_for_saving(written):
    text = " ".join(Page((written[0] / "report.html").read_text(encoding="utf-8")).texts)
    heads = set(re.findall(r"[A-Z][a-z ]* at CPT\(\d+ %\)", text))
    assert heads == {
        f"Saving in {unit} at CPT({share} %)" for unit in ("strong calls", "dollars") for share in (50, 80)
    }


def test_pictures_fit_a_phone(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    widths = {
        kind: {float(width) for width in re.findall(rf'<svg class="{kind}"[^>]*viewBox="0 0 ([0-9.]+) ', text)}
        for kind in ("wide", "narrow")
    }
    # In points, of which a letter has 8 or more: on 390 pixels, less margins, the narrow ones are not shrunk.
    assert widths == {"wide": {489.6}, "narrow": {266.4}}
    assert "min-width: 28rem" not in text
    assert "figure svg.wide { display: none; }" in text


def test_no_line_goes_through_the_label_of_the_oracle():
    with matplotlib.rc_context(RC):
        figure, _, _ = draw_quality(benchmark(prompts=2000), NARROW)
    (axes,) = figure.axes
    figure.get_layout_engine().execute(figure)
    renderer = figure.canvas.get_renderer()
    (label,) = (text for text in axes.texts if text.get_text().startswith("oracle"))
    extent = label.get_window_extent(renderer)
    assert extent.y0 >= axes.get_window_extent(renderer).y1
    assert extent.y1 <= figure.bbox.y1


def test_tables_have_captions_and_heads(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    tables = re.findall(r"<table.*?</table>", text, flags=re.DOTALL)
    assert len(tables) >= 6
    for table in tables:
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert 'scope="row"' in table


def test_domains_come_by_gain_and_those_without_a_gap_last(written):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    table = text[text.index("Table of 12 domains") :]
    names = re.findall(r'<th scope="row">(domain_\d\d)', table)
    assert names == [f"domain_{n:02d}" for n in (1, 2, 3, 4, 6, 7, 8, 9, 11, 0, 5, 10)]


def test_equal_evaluations_give_equal_bytes(tmp_path, written):
    again = write_report(evaluation(), tmp_path)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in written[1]]


def bare(name: str = "mmlu"):
    """A benchmark of one plot."""
    result = benchmark(name, prompts=300, domains=0)
    routers = (
        dataclasses.replace(router, histogram=None, curve=dataclasses.replace(router.curve, cost_usd_per_1k=None))
        for router in result.routers
    )
    return dataclasses.replace(result, differences=(), routers=tuple(routers))


def bare_evaluation(*names: str) -> Evaluation:
    return Evaluation("2026-11-24", {}, tuple(bare(name) for name in names or ("mmlu",)))


HOSTILE = "<img src=x onerror=alert(1)>\"'&</title></svg><script>alert(2)</script>"


def test_names_cannot_become_markup(tmp_path):
    sample = evaluation(routers=(HOSTILE, "$\\frac{1}$ \n 路由器 \x07 \ud800"), domains=3)
    first = dataclasses.replace(sample.benchmarks[0], name=HOSTILE, strong_model=HOSTILE, notes=(HOSTILE,))
    first = dataclasses.replace(
        first,
        routers=tuple(
            dataclasses.replace(
                router, by_domain={f"{HOSTILE}{name}": found for name, found in router.by_domain.items()}
            )
            for router in first.routers
        ),
    )
    hostile = dataclasses.replace(sample, benchmarks=(first,), created=HOSTILE, settings={HOSTILE: {HOSTILE: HOSTILE}})
    page = Page(write_report(hostile, tmp_path)[0].read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert "script" not in page.tags
    assert page.outside == []
    assert HOSTILE in page.texts


@pytest.mark.parametrize("names", [("../../x", "../../x"), ("", "???"), ("1st", "con/..")])
def test_benchmark_names_cannot_leave_the_folder(tmp_path, names):
    files = write_report(bare_evaluation(*names), tmp_path / "report")
    assert {file.parent for file in files} == {tmp_path / "report"}
    assert len(set(files)) == len(files) == 4
    Page(files[0].read_text(encoding="utf-8"))


def test_one_benchmark_needs_no_overview_and_few_facts_suffice(tmp_path):
    files = write_report(bare_evaluation(), tmp_path)
    assert [file.name for file in files] == ["report.html", "mmlu_quality.png", "evaluation.json"]
    assert "At a glance" not in files[0].read_text(encoding="utf-8")


def test_an_infinite_saving_is_shown(tmp_path):
    result = bare()
    first = result.routers[0]
    metrics = dataclasses.replace(first.metrics, saving_cpt50=Interval(math.inf, 2.0, math.inf))
    result = dataclasses.replace(result, routers=(dataclasses.replace(first, metrics=metrics),))
    page = write_report(dataclasses.replace(bare_evaluation(), benchmarks=(result,)), tmp_path)[0].read_text(
        encoding="utf-8"
    )
    assert "∞" in page
    assert "inf×" not in page


def test_many_routers_and_long_names_are_drawn():
    plots = draw_plots(
        benchmark(routers=[f"router {n} " + "x" * 60 for n in range(8)], prompts=200, domains=3), salt="many"
    )
    assert [plot.name for plot in plots] == ["quality", "cost", "win_rates", "domains"]


def test_a_router_that_decides_nothing_is_drawn():
    result = benchmark(prompts=200, domains=0)
    flat = dataclasses.replace(result.routers[0].curve, threshold=(0.5,) * len(result.routers[0].curve.threshold))
    router = dataclasses.replace(result.routers[0], curve=flat)
    assert draw_plots(dataclasses.replace(result, routers=(router,)), salt="flat")


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    write_report(bare_evaluation(), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_is_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "report").write_text("")
    with pytest.raises(DataError, match=r"report cannot be written"):
        check_report(tmp_path / "report")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "evaluation.json").mkdir()
    with pytest.raises(DataError, match=r"evaluation\.json cannot be written"):
        write_report(bare_evaluation(), tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_the_missing_extra_names_itself(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install .\.\[evaluate\]"):
        check_report(tmp_path)


def test_the_record_is_plain_json(written):
    record = json.loads((written[0] / "evaluation.json").read_text(encoding="utf-8"))
    assert record["created"] == "2026-11-24"
    assert [result["name"] for result in record["benchmarks"]] == ["mmlu", "mt_bench"]
