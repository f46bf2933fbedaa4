"""A proof as a folder: a page that needs nothing else, the same in Markdown, and every number as JSON.

Each begins with the verdict. The page has pictures where matplotlib is installed, and says so where it is not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from routellm_fast.adaptation.proving import ADAPTED, AtThreshold, Proof
from routellm_fast.adaptation.replacing import Replacement
from routellm_fast.adaptation.saving import Monthly
from routellm_fast.adaptation.sentences import headline, number_of, percent_of, reasons, replacement, usd
from routellm_fast.adaptation.verdict import Verdict, is_recommended, verdict_on
from routellm_fast.arrays import brief_repr
from routellm_fast.errors import MissingExtraError
from routellm_fast.evaluation.report.files import make_folder, write_output
from routellm_fast.evaluation.report.markup import (
    NONE,
    document,
    escape,
    html_table,
    interval_cell,
    table_row,
)
from routellm_fast.evaluation.report.page import guide_section, measured
from routellm_fast.evaluation.report.plot_curves import Drawn, draw_quality
from routellm_fast.evaluation.report.plot_style import INK, SERIES, SURFACE, Sheet
from routellm_fast.evaluation.report.plots import Plot, draw_plot, draw_plots
from routellm_fast.evaluation.results import BenchmarkResult
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.evaluation.verdict import APGR_TITLE, percent, threshold_text
from routellm_fast.interval import Interval
from routellm_fast.shown import as_json, in_markdown

PAGE_NAME: Final = "report.html"
TEXT_NAME: Final = "report.md"
RECORD_NAME: Final = "verdict.json"
# What every report holds; a folder with one of these holds a report.
OUTPUTS: Final = (PAGE_NAME, TEXT_NAME, RECORD_NAME)
FORMAT_VERSION: Final = 1
_ID: Final = "proof"
_WITHOUT_GAP: Final = (
    "On these prompts the strong model is not better. APGR and the curves divide by what it is better by, and are left "
    "out."
)
_WITHOUT_PICTURES: Final = "There are no pictures: matplotlib is not installed."


@dataclass(frozen=True, slots=True)
class Report:
    """A proof with all that its reader wants to know.

    Attributes:
        proof: The proof.
        created: When it was made, ISO 8601; the only time in the report.
        router: The directory of the adapted router, as it shall be shown; "" where there is none.
        labelling: How the labels were made, by what each entry says, e.g. {"Judge": "gpt-4o, both orders"}.
        monthly: What a month costs; None where costs or the number of requests are not known.
        replacement: The router held against the one before; None where there was none.
    """

    proof: Proof
    created: str
    router: str = ""
    labelling: Mapping[str, str] = field(default_factory=dict)
    monthly: Monthly | None = None
    replacement: Replacement | None = None

    __repr__ = brief_repr

    @property
    def verdict(self) -> Verdict:
        """What the proof comes to."""
        return verdict_on(self.proof)

    @property
    def headline(self) -> str:
        """The verdict: one line."""
        found = headline(self.proof, self.verdict)
        is_refused = self.replacement is not None and not self.replacement.takes_place
        return f"The old router stays. Of the new one: {found}" if is_refused else found

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Labels and sentences that follow the verdict."""
        update = () if self.replacement is None else (("Update", replacement(self.replacement)),)
        return *update, *reasons(self.proof, self.verdict, self.monthly)

    def lines(self) -> list[str]:
        """Return the report in a few lines of text, the verdict first. Nothing in them is unfit for a terminal."""
        return [self.headline, *(f"{label}: {text}" for label, text in self.reasons)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object; numbers that are not finite are None."""
        verdict = self.verdict
        found = {
            "format_version": FORMAT_VERSION,
            "created": self.created,
            "headline": self.headline,
            "reasons": [list(pair) for pair in self.reasons],
            "is_recommended": is_recommended(verdict),
            "verdict": dataclasses.asdict(verdict),
            "router": self.router,
            "labelling": dict(self.labelling),
            "monthly": None if self.monthly is None else dataclasses.asdict(self.monthly),
            "replacement": None if self.replacement is None else dataclasses.asdict(self.replacement),
            "proof": self.proof.to_json(),
        }
        return {key: _finite(value) for key, value in found.items()}


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write report.html, report.md and verdict.json; equal reports give equal bytes.

    Other files in the folder stay. Each file appears whole or not at all.

    Returns:
        What was written, the page first.

    Raises:
        DataError: The folder or a file cannot be written.
    """
    make_folder(folder)
    # Names come from outside, and may hold lone surrogates; UTF-8 cannot.
    files = {
        PAGE_NAME: page(report).encode("utf-8", "replace"),
        TEXT_NAME: markdown(report).encode("utf-8", "replace"),
        RECORD_NAME: f"{as_json(report.to_json(), indent=1, sort_keys=True)}\n".encode(),
    }
    return [write_output(folder / name, content) for name, content in files.items()]


def page(report: Report) -> str:
    """Return the report as one HTML page that needs no other file."""
    proof, first = report.proof, report.headline
    points = "".join(f"<li><b>{escape(label)}:</b> {escape(text)}</li>" for label, text in report.reasons)
    links = "".join(
        f'<li><a href="#{name}">{title}</a></li>'
        for name, title in (
            ("verdict", "Why"),
            ("set", "What to set"),
            (_ID, "What was measured"),
            ("labels", "How the labels were made"),
            ("guide", "How to read this"),
        )
    )
    pair = f"strong: {proof.strong_model} · weak: {proof.weak_model} · {report.created}"
    return document(
        first,
        f'<header><h1>{escape(first)}</h1>\n<p class="lead">{escape(pair)}</p>\n'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>\n'
        f'<section id="verdict"><h2>Why</h2>\n<ul class="reasons">{points}</ul></section>\n'
        f'<section id="set"><h2>What to set</h2>\n{_settings(report)}</section>\n'
        f'<section id="{_ID}"><h2>What was measured</h2>\n{_measured(proof)}</section>\n'
        f'<section id="labels"><h2>How the labels were made</h2>\n{_labelling(report)}</section>\n'
        f"{guide_section()}</main>\n",
    )


def markdown(report: Report) -> str:
    """Return the report as Markdown, without pictures."""
    proof = report.proof
    parts = [f"# {in_markdown(report.headline)}"]
    parts.append(f"Strong: {in_markdown(proof.strong_model)}. Weak: {in_markdown(proof.weak_model)}. {report.created}")
    parts.append("\n".join(f"* **{in_markdown(label)}:** {in_markdown(text)}" for label, text in report.reasons))
    parts.append("## What to set")
    if report.router:
        parts.append(f"Router: {in_markdown(report.router)}")
    titles, rows = _thresholds(proof)
    parts.append(
        TextTable(
            ("Goal", *titles), tuple((goal, *map(_cell, cells)) for goal, cells in rows), frozenset({"Goal"})
        ).markdown()
    )
    parts.append("## What was measured")
    if proof.measured is None:
        parts.append(_WITHOUT_GAP)
    else:
        parts += _measured_tables(proof.measured)
    parts.append("## How the labels were made")
    found = [(name, text) for name, text in _facts(report)]
    parts.append("\n".join(f"* {in_markdown(name)}: {in_markdown(text)}" for name, text in found))
    return "\n\n".join(parts) + "\n"


def _settings(report: Report) -> str:
    router = f'<p class="facts">Router: {escape(report.router)}</p>\n' if report.router else ""
    titles, rows = _thresholds(report.proof)
    drawn = [table_row(goal, [_html_cell(cell) for cell in cells], "router") for goal, cells in rows]
    caption = (
        "Thresholds that were chosen on the other labels, and what the router does with each on the untouched part, "
        "beside a fixed mixture of the same quality; in brackets: 95 % intervals"
    )
    return f"{router}{html_table(caption, ['Goal', *titles], drawn)}"


# What a cell shows: a text, or a number with its interval and how it is written.
_Cell = str | tuple[Interval | None, Callable[[float], str]]


def _thresholds(proof: Proof) -> tuple[list[str], list[tuple[str, list[_Cell]]]]:
    """Return the titles and rows of the table of thresholds."""
    has_money = any(point.money is not None for point in proof.points)
    titles = ["Threshold", "Strong share", "Quality", "Of the strong model's", "Calls saved"]
    titles += ["Mixture's strong share", "Saved beyond the mixture"]
    titles += ["USD per 1,000 requests", "Money saved"] if has_money else []
    return titles, [(point.choice.goal, _threshold_cells(point, has_money)) for point in proof.points]


def _threshold_cells(point: AtThreshold, has_money: bool) -> list[_Cell]:
    cells: list[_Cell] = [threshold_text(point.choice.threshold)]
    shares = (
        point.strong_share,
        point.quality,
        point.kept,
        point.saved_calls,
        point.mixture_share,
        point.beyond_mixture,
    )
    cells += [(share, percent) for share in shares]
    if has_money:
        money = point.money
        cells.append((None if money is None else money.routed_usd, lambda cost: usd(1000.0 * cost)))
        cells.append((None if money is None else money.saved_share, percent))
    return cells


def _html_cell(cell: _Cell) -> str:
    return f"<td>{escape(cell)}</td>" if isinstance(cell, str) else interval_cell(*cell)


def _cell(cell: _Cell) -> str:
    if isinstance(cell, str):
        return cell
    interval, show = cell
    if interval is None:
        return NONE
    return show(interval.value) + (f" [{show(interval.low)}, {show(interval.high)}]" if interval.width else "")


def _measured(proof: Proof) -> str:
    models = (
        f'<p class="facts">The strong model scores {escape(percent_of(proof.strong_quality))}, the weak one '
        f"{escape(percent_of(proof.weak_quality))}; the difference is {escape(percent_of(proof.gap))}. On "
        f"{proof.ties:,} of {proof.prompts:,} prompts they do equally well.</p>\n"
    )
    tests = "".join(
        table_row(name, [f"<td>{p:.4f}</td>"], "router" if name == ADAPTED else "baseline")
        for name, p in proof.p_values.items()
    )
    caption = "How likely so good an order of the prompts would be if the score knew nothing (p, one-sided)"
    test = html_table(caption, ["Router", "p"], [tests])
    if proof.measured is None:
        return f'{models}<p class="note">{_WITHOUT_GAP}</p>\n{test}'
    try:
        plots = pictures(proof)
        missing = ""
    except MissingExtraError:
        plots, missing = [], f'<p class="note">{_WITHOUT_PICTURES}</p>\n'
    return f"{models}{missing}{measured(proof.measured, _ID, plots)}{test}"


def _measured_tables(result: BenchmarkResult) -> Iterator[str]:
    yield from map(in_markdown, result.notes)
    rows = []
    for router in result.routers:
        found = router.metrics
        cells: list[_Cell] = [(found.apgr_routellm, lambda value: f"{value:.3f}"), (found.cpt50, percent)]
        rows.append((router.name, *map(_cell, [*cells, (found.cpt80, percent)])))
    titles = ("Router", APGR_TITLE, "CPT(50 %)", "CPT(80 %)")
    yield TextTable(titles, tuple(rows), frozenset({"Router"})).markdown()
    if result.differences:
        differences = tuple(
            (found.router, found.other, number_of(found.apgr, sign=True)) for found in result.differences
        )
        yield TextTable(
            ("Router", "Against", "Difference of APGR"), differences, frozenset({"Router", "Against"})
        ).markdown()


def _labelling(report: Report) -> str:
    rows = [table_row(name, [f'<td class="wrap">{escape(text)}</td>'], "router") for name, text in _facts(report)]
    return html_table("Where the labels come from, and what they cost", ["What", "Found"], rows, words=True)


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    proof = report.proof
    yield "Labels", f"{proof.labels:,}, of which {proof.prompts:,} were kept apart for this proof"
    yield from report.labelling.items()
    if report.monthly is not None and report.monthly.labelling_usd is not None:
        yield "Cost", f"{usd(report.monthly.labelling_usd)} USD"
    settings = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in proof.settings.items())
    yield "Intervals and tests", settings


def pictures(proof: Proof) -> list[Plot]:
    """Draw the pictures; none where APGR is undefined. Raises MissingExtraError where matplotlib is not installed."""
    if proof.measured is None:
        return []
    result = proof.measured
    own = draw_plot("quality", lambda sheet: _draw_quality(proof, result, sheet), salt=_ID)
    others = draw_plots(result, salt=_ID, without=["quality"])
    return others if own is None else [own, *others]


def _draw_quality(proof: Proof, result: BenchmarkResult, sheet: Sheet) -> Drawn:
    """Quality over the strong share, with the interval of the adapted router's curve and the thresholds chosen."""
    figure, caption, alt = draw_quality(result, sheet)
    axes = figure.axes[0]
    band = proof.band
    shares = [100.0 * share for share in band.strong_share]
    # The adapted router is the first, and has the first colour.
    axes.fill_between(shares, band.low, band.high, color=SERIES[0], alpha=0.15, linewidth=0.0, zorder=2)
    for point in proof.points:
        at, quality = point.strong_share, point.quality
        axes.errorbar(
            [100.0 * at.value],
            [quality.value],
            xerr=[[100.0 * (at.value - at.low)], [100.0 * (at.high - at.value)]],
            yerr=[[quality.value - quality.low], [quality.high - quality.value]],
            fmt="s",
            markersize=6.0,
            color=INK,
            markerfacecolor=SURFACE,
            markeredgewidth=1.6,
            elinewidth=1.1,
            capsize=2.5,
            zorder=7,
        )
    caption = (
        f"{caption} The coloured band is the 95 % interval of the {ADAPTED}; squares are the thresholds that were "
        "chosen, with 95 % intervals."
    )
    chosen = "; ".join(
        f"{100.0 * point.strong_share.value:.0f} % strong calls at quality {point.quality.value:.3f}"
        for point in proof.points
    )
    return figure, caption, f"{alt} Chosen thresholds: {chosen}."


def _finite(value: Any) -> Any:
    """Return a JSON-able value with None in the place of numbers that JSON has no form for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return value
