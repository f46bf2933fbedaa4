"""The report's page. Every name in it comes from outside and is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from routellm_fast.evaluation.report.guide import GUIDE
from routellm_fast.evaluation.report.markup import (
    MINUS,
    NONE,
    document,
    escape,
    figure,
    html_table,
    interval_cell,
    signed,
    table_row,
)
from routellm_fast.evaluation.report.plot_style import SERIES
from routellm_fast.evaluation.report.plots import Plot
from routellm_fast.evaluation.results import BenchmarkResult, DomainResult, Evaluation, MetricSet, RouterResult
from routellm_fast.evaluation.verdict import (
    APGR_TITLE,
    Setting,
    compared,
    percent,
    quality_text,
    settings_of,
    verdict_on,
)
from routellm_fast.interval import Interval

_INFINITE: Final = "\N{INFINITY}"
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def page(evaluation: Evaluation, ids: Sequence[str], plots: Sequence[Sequence[Plot]]) -> str:
    """Return the HTML page.

    Args:
        evaluation: The evaluation to show.
        ids: An HTML id a benchmark.
        plots: The pictures of each benchmark.
    """
    routers = ", ".join(evaluation.routers) or "no router"
    links = "".join(
        f'<li><a href="#{name}">{escape(result.name)}</a></li>'
        for name, result in zip(ids, evaluation.benchmarks, strict=True)
    )
    sections = "".join(
        _section(result, name, drawn) for result, name, drawn in zip(evaluation.benchmarks, ids, plots, strict=True)
    )
    return document(
        f"Router evaluation: {routers}",
        f'<header><h1>Router evaluation</h1>\n<p class="lead">{escape(routers)} · {escape(evaluation.created)}</p>\n'
        f'<nav aria-label="Sections"><ul>{links}<li><a href="#guide">How to read this</a></li>'
        f'<li><a href="#settings">Settings</a></li></ul></nav></header>\n<main>\n'
        f"{_verdicts(evaluation)}{_overview(evaluation)}{sections}{guide_section()}{_settings(evaluation)}</main>\n",
    )


def _verdicts(evaluation: Evaluation) -> str:
    """What to set, what it saves and how sure that is, for each benchmark."""
    parts = []
    for result in evaluation.benchmarks:
        verdict = verdict_on(result)
        if verdict is None:
            continue
        points = "".join(f"<li><b>{escape(label)}:</b> {escape(text)}</li>" for label, text in verdict.points)
        table = _thresholds(verdict.router, verdict.settings, result)
        parts.append(f'<p class="verdict">{escape(verdict.headline)}</p>\n<ul class="reasons">{points}</ul>{table}\n')
    return f'<section id="verdict"><h2>Verdict</h2>\n{"".join(parts)}</section>\n' if parts else ""


def _thresholds(router: str, settings: Sequence[Setting], result: BenchmarkResult) -> str:
    has_costs = any(setting.cost_usd_per_1k is not None for setting in settings)
    rows = []
    for setting in settings:
        cells = [
            setting.threshold_text,
            percent(setting.strong_share),
            quality_text(result, setting.quality),
            percent(setting.pgr),
        ]
        if has_costs:
            cells.append(NONE if setting.cost_usd_per_1k is None else f"{setting.cost_usd_per_1k:.2f}")
        rows.append(table_row(setting.goal, [f"<td>{escape(cell)}</td>" for cell in cells], "router"))
    heads = ["Goal", "Threshold", "Strong share", "Quality", "PGR", *(["USD per 1,000 prompts"] if has_costs else [])]
    return html_table(f"Thresholds of {router} on {result.name}, read off these prompts", heads, rows)


def _overview(evaluation: Evaluation) -> str:
    """APGR of every router on every benchmark; left out where it would repeat the only table."""
    if len(evaluation.benchmarks) < 2:
        return ""
    names = list(dict.fromkeys(router.name for result in evaluation.benchmarks for router in result.routers))
    rows = []
    for name in names:
        found = [
            next((router for router in result.routers if router.name == name), None) for result in evaluation.benchmarks
        ]
        role = next(router.role for router in found if router is not None)
        cells = [
            interval_cell(
                None if router is None else router.metrics.apgr_routellm, _number, best=_is_best(router, result)
            )
            for router, result in zip(found, evaluation.benchmarks, strict=True)
        ]
        rows.append(table_row(name, cells, role))
    heads = [f"{result.name} ({result.prompts:,} prompts)" for result in evaluation.benchmarks]
    table = html_table(f"{APGR_TITLE}, with 95 % intervals; bold: the highest of the routers", ["Router", *heads], rows)
    return f'<section id="overview"><h2>At a glance</h2>{table}</section>\n'


def _section(result: BenchmarkResult, name: str, plots: Sequence[Plot]) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(result.name)}</h2>\n'
        f"{measured(result, name, plots)}{_other_thresholds(result)}"
        f"{_domains(result, name, [plot for plot in plots if plot.name == 'domains'])}</section>\n"
    )


def measured(result: BenchmarkResult, name: str, plots: Sequence[Plot]) -> str:
    """Return what was found on some prompts, as HTML: facts, notes, table, pictures and differences.

    Args:
        result: What was found.
        name: Keeps ids apart from those of other results on the page.
        plots: Pictures of the result; those of domains are left out.
    """
    facts = "; ".join([f"{result.prompts:,} prompts", *result.left_out])
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in result.notes)
    strong, weak = quality_text(result, result.strong_quality), quality_text(result, result.weak_quality)
    return (
        f'<p class="facts">{escape(facts)}. Strong: {escape(result.strong_model)}, quality {strong}. '
        f"Weak: {escape(result.weak_model)}, quality {weak}.</p>{notes}\n{_summary(result)}\n"
        + "".join(figure(plot, name) for plot in plots if plot.name != "domains")
        + _differences(result)
    )


def _other_thresholds(result: BenchmarkResult) -> str:
    """Thresholds of the routers that the verdict does not name."""
    verdict = verdict_on(result)
    others = [
        router for router in result.routers if router.role == "router" and verdict and router.name != verdict.router
    ]
    tables = "".join(_thresholds(router.name, settings_of(router, result), result) for router in others)
    return f"<details><summary>Thresholds of other routers</summary>{tables}</details>\n" if tables else ""


def _summary(result: BenchmarkResult) -> str:
    has_dollars = any(router.metrics.dollar_saving_cpt50 is not None for router in result.routers)
    heads = ["Router", APGR_TITLE, "APGR, paper", "CPT(20 %)", "CPT(50 %)", "CPT(80 %)"]
    heads += ["Saving in strong calls at CPT(50 %)", "Saving in strong calls at CPT(80 %)"]
    heads += ["Saving in dollars at CPT(50 %)", "Saving in dollars at CPT(80 %)"] if has_dollars else []
    columns: list[tuple[Callable[[MetricSet], Interval | None], Callable[[float], str]]] = [
        (lambda metrics: metrics.apgr_routellm, _number),
        (lambda metrics: metrics.apgr_paper, _number),
        (lambda metrics: metrics.cpt20, percent),
        (lambda metrics: metrics.cpt50, percent),
        (lambda metrics: metrics.cpt80, percent),
        (lambda metrics: metrics.saving_cpt50, _times),
        (lambda metrics: metrics.saving_cpt80, _times),
    ]
    if has_dollars:
        columns += [
            (lambda metrics: metrics.dollar_saving_cpt50, _times),
            (lambda metrics: metrics.dollar_saving_cpt80, _times),
        ]
    rows = []
    colors = iter(range(len(result.routers)))
    for router in result.routers:
        cells = [
            interval_cell(get(router.metrics), show, best=index == 0 and _is_best(router, result))
            for index, (get, show) in enumerate(columns)
        ]
        color = f"var(--series-{next(colors) % len(SERIES) + 1})" if router.role == "router" else ""
        rows.append(table_row(router.name, cells, router.role, color=color))
    model, quality = result.best_single
    text = f"quality {quality_text(result, quality)} at every cost"
    single = f'<td class="text" colspan="{len(columns)}">{escape(model)}, {escape(text)}</td>'
    rows.append(f'<tr class="single"><th scope="row">best single model</th>{single}</tr>')
    return html_table("In brackets: 95 % intervals. Bold: the highest APGR of the routers", heads, rows)


def _differences(result: BenchmarkResult) -> str:
    if not result.differences:
        return ""
    rows = []
    for entry in result.differences:
        verdict = compared(entry.apgr)
        cells = [f'<td class="text">{escape(entry.other)}</td>', interval_cell(entry.apgr, signed)]
        rows.append(table_row(entry.router, [*cells, f'<td class="text">{verdict}</td>'], "router"))
    table = html_table(
        f"{APGR_TITLE}, both on the same drawn prompts",
        ["Router", "Against", "Difference", "Verdict"],
        rows,
        words=True,
    )
    return f"<h3>Differences</h3>{table}\n"


def _domains(result: BenchmarkResult, name: str, plots: Sequence[Plot]) -> str:
    shown = [router for router in result.routers if router.by_domain]
    if not shown:
        return ""
    first = shown[0].by_domain

    def gain(domain: str) -> tuple[bool, float, str]:
        apgr = first[domain].apgr if domain in first else None
        return apgr is None, 0.0 if apgr is None else -apgr.value, domain

    domains = sorted(dict.fromkeys(domain for router in shown for domain in router.by_domain), key=gain)
    rows = []
    for domain in domains:
        found = [router.by_domain.get(domain) for router in shown]
        known = next(entry for entry in found if entry is not None)
        cells = [f"<td>{known.prompts:,}</td>", f"<td>{known.gap:+.4g}</td>"]
        rows.append(table_row(domain, [*cells, *(_domain_cell(entry) for entry in found)], "baseline"))
    heads = ["Domain", "Prompts", f"Gap, strong {MINUS} weak", *(router.name for router in shown)]
    caption = (
        f"{APGR_TITLE}, by gain of {shown[0].name}. A dash: the gap, which APGR divides by, is not "
        "above zero beyond doubt"
    )
    figures = "".join(figure(plot, name) for plot in plots)
    return f"<h3>Domains</h3>{figures}<details><summary>Table of {len(domains)} domains</summary>" + (
        html_table(caption, heads, rows) + "</details>\n"
    )


def _domain_cell(entry: DomainResult | None) -> str:
    return interval_cell(None if entry is None else entry.apgr, _number)


def guide_section() -> str:
    """Return the section that says what the words mean."""
    entries = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in GUIDE.items())
    return f'<section id="guide"><h2>How to read this</h2><dl>{entries}</dl></section>\n'


def _settings(evaluation: Evaluation) -> str:
    routers = [
        table_row(
            name,
            [
                f'<td class="wrap">{escape(record.get("kind") or NONE)}</td>',
                f'<td class="wrap">{escape(record.get("directory") or NONE)}</td>',
                f'<td class="digest">{escape(record.get("digest") or NONE)}</td>',
            ],
            "router",
        )
        for name, record in evaluation.routers.items()
    ]
    settings = [
        table_row(key.replace("_", " "), [f'<td class="wrap">{escape(_shown(value))}</td>'], "router")
        for key, value in evaluation.settings.items()
    ]
    return (
        '<section id="settings"><h2>Settings</h2>'
        + (
            html_table("What was evaluated", ["Router", "Kind", "Directory", "Digest"], routers, words=True)
            if routers
            else ""
        )
        + (html_table("What the numbers depend on", ["Setting", "Value"], settings, words=True) if settings else "")
        + "</section>\n"
    )


def _is_best(router: RouterResult | None, result: BenchmarkResult) -> bool:
    if router is None or router.role != "router":
        return False
    values = [other.metrics.apgr_routellm.value for other in result.routers if other.role == "router"]
    return len(values) > 1 and router.metrics.apgr_routellm.value == max(values)


def _number(value: float) -> str:
    return f"{value:.3f}"


def _times(value: float) -> str:
    return _INFINITE if math.isinf(value) else f"{value:.2f}{_TIMES}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(entry)}" for key, entry in value.items())
    return json.dumps(value, ensure_ascii=False)
