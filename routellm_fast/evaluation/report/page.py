"""The report's page. Every name in it comes from outside and is escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from routellm_fast.evaluation.report.guide import GUIDE
from routellm_fast.evaluation.report.page_style import STYLE
from routellm_fast.evaluation.report.plot_style import SERIES
from routellm_fast.evaluation.report.plots import Plot
from routellm_fast.evaluation.results import BenchmarkResult, DomainResult, Evaluation, MetricSet, RouterResult
from routellm_fast.interval import Interval

# The signs that typography wants, by name: they are easily taken for their ASCII look-alikes.
_NONE: Final = "\N{EN DASH}"
_MINUS: Final = "\N{MINUS SIGN}"
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
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Router evaluation: {escape(routers)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>Router evaluation</h1>\n<p class="lead">{escape(routers)} · {escape(evaluation.created)}</p>\n'
        f'<nav aria-label="Sections"><ul>{links}<li><a href="#guide">How to read this</a></li>'
        f'<li><a href="#settings">Settings</a></li></ul></nav></header>\n<main>\n{_overview(evaluation)}{sections}'
        f"{_guide()}{_settings(evaluation)}</main>\n</body>\n</html>\n"
    )


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
            _interval(None if router is None else router.metrics.apgr_routellm, _number, best=_is_best(router, result))
            for router, result in zip(found, evaluation.benchmarks, strict=True)
        ]
        rows.append(_row(name, cells, role))
    heads = [f"{result.name} ({result.prompts:,} prompts)" for result in evaluation.benchmarks]
    table = _table(
        "APGR as RouteLLM's code takes it, with 95 % intervals; bold: the best router", ["Router", *heads], rows
    )
    return f'<section id="overview"><h2>At a glance</h2>{table}</section>\n'


def _section(result: BenchmarkResult, name: str, plots: Sequence[Plot]) -> str:
    left_out = [
        f"{count:,} {what}"
        for count, what in (
            (result.dropped, "left out as contaminated by RouteLLM's training data"),
            (result.overlapping, "left out because the training files given hold them"),
            (result.unscored, "left out for want of a score"),
        )
        if count
    ]
    facts = "; ".join([f"{result.prompts:,} prompts", *left_out])
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in result.notes)
    strong, weak = _quality(result, result.strong_quality), _quality(result, result.weak_quality)
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(result.name)}</h2>\n'
        f'<p class="facts">{escape(facts)}. Strong: {escape(result.strong_model)}, quality {strong}. '
        f"Weak: {escape(result.weak_model)}, quality {weak}.</p>{notes}\n{_summary(result)}\n"
        + "".join(_figure(plot, name) for plot in plots if plot.name != "domains")
        + _differences(result)
        + _domains(result, name, [plot for plot in plots if plot.name == "domains"])
        + "</section>\n"
    )


def _summary(result: BenchmarkResult) -> str:
    has_dollars = any(router.metrics.dollar_saving_cpt50 is not None for router in result.routers)
    heads = ["Router", "APGR, code", "APGR, paper", "CPT(20 %)", "CPT(50 %)", "CPT(80 %)"]
    heads += ["Saving at CPT(50 %)", "Saving at CPT(80 %)"]
    heads += ["Dollar saving at CPT(50 %)", "Dollar saving at CPT(80 %)"] if has_dollars else []
    columns: list[tuple[Callable[[MetricSet], Interval | None], Callable[[float], str]]] = [
        (lambda metrics: metrics.apgr_routellm, _number),
        (lambda metrics: metrics.apgr_paper, _number),
        (lambda metrics: metrics.cpt20, _percent),
        (lambda metrics: metrics.cpt50, _percent),
        (lambda metrics: metrics.cpt80, _percent),
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
            _interval(get(router.metrics), show, best=index == 0 and _is_best(router, result))
            for index, (get, show) in enumerate(columns)
        ]
        color = f"var(--series-{next(colors) % len(SERIES) + 1})" if router.role == "router" else ""
        rows.append(_row(router.name, cells, router.role, color=color))
    model, quality = result.best_single
    text = f"quality {_quality(result, quality)} at every cost"
    single = f'<td class="text" colspan="{len(columns)}">{escape(model)}, {escape(text)}</td>'
    rows.append(f'<tr class="single"><th scope="row">best single model</th>{single}</tr>')
    return _table("In brackets: 95 % intervals. Bold: the best router", heads, rows)


def _differences(result: BenchmarkResult) -> str:
    if not result.differences:
        return ""
    rows = []
    for entry in result.differences:
        verdict = "better" if entry.apgr.low > 0.0 else "worse" if entry.apgr.high < 0.0 else "not told apart"
        cells = [f'<td class="text">{escape(entry.other)}</td>', _interval(entry.apgr, _signed)]
        rows.append(_row(entry.router, [*cells, f'<td class="text">{verdict}</td>'], "router"))
    table = _table(
        "APGR as RouteLLM's code takes it, both on the same drawn prompts",
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
        rows.append(_row(domain, [*cells, *(_domain_cell(entry) for entry in found)], "baseline"))
    heads = ["Domain", "Prompts", f"Gap, strong {_MINUS} weak", *(router.name for router in shown)]
    caption = (
        f"APGR as RouteLLM's code takes it, by gain of {shown[0].name}. A dash: the gap, which APGR divides by, is not "
        "above zero beyond doubt"
    )
    figures = "".join(_figure(plot, name) for plot in plots)
    return f"<h3>Domains</h3>{figures}<details><summary>Table of {len(domains)} domains</summary>" + (
        _table(caption, heads, rows) + "</details>\n"
    )


def _domain_cell(entry: DomainResult | None) -> str:
    return _interval(None if entry is None else entry.apgr, _number)


def _figure(plot: Plot, name: str) -> str:
    title = f"{name}-{plot.name}-alt"
    svg = plot.svg.replace("<svg ", f'<svg role="img" aria-labelledby="{title}" ', 1)
    begin = svg.index(">") + 1
    svg = f'{svg[:begin]}<title id="{title}">{escape(plot.alt)}</title>{svg[begin:]}'
    # Shrunk to the width of a phone its letters could not be read: it scrolls there.
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>"
    region = f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{title}">'
    return f"<figure>{region}{svg}</div>{caption}</figure>\n"


def _guide() -> str:
    entries = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in GUIDE.items())
    return f'<section id="guide"><h2>How to read this</h2><dl>{entries}</dl></section>\n'


def _settings(evaluation: Evaluation) -> str:
    routers = [
        _row(
            name,
            [
                f'<td class="wrap">{escape(record.get("kind") or _NONE)}</td>',
                f'<td class="wrap">{escape(record.get("directory") or _NONE)}</td>',
                f'<td class="digest">{escape(record.get("digest") or _NONE)}</td>',
            ],
            "router",
        )
        for name, record in evaluation.routers.items()
    ]
    settings = [
        _row(key.replace("_", " "), [f'<td class="wrap">{escape(_shown(value))}</td>'], "router")
        for key, value in evaluation.settings.items()
    ]
    return (
        '<section id="settings"><h2>Settings</h2>'
        + (
            _table("What was evaluated", ["Router", "Kind", "Directory", "Digest"], routers, words=True)
            if routers
            else ""
        )
        + (_table("What the numbers depend on", ["Setting", "Value"], settings, words=True) if settings else "")
        + "</section>\n"
    )


def _table(caption: str, heads: Iterable[str], rows: Iterable[str], *, words: bool = False) -> str:
    # A region that scrolls must be reachable without a mouse.
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    kind = ' class="words"' if words else ""
    columns = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        f"{region}<table{kind}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, cells: Iterable[str], role: str, *, color: str = "") -> str:
    swatch = f'<span class="swatch" style="background: {color}"></span>' if color else ""
    return f'<tr class="{role}"><th scope="row">{swatch}{escape(name)}</th>{"".join(cells)}</tr>'


def _interval(interval: Interval | None, show: Callable[[float], str], *, best: bool = False) -> str:
    if interval is None:
        return f"<td>{_NONE}</td>"
    drawn = "" if interval.width == 0.0 else f"<small>[{show(interval.low)}, {show(interval.high)}]</small>"
    kind = ' class="best"' if best else ""
    return f"<td{kind}>{show(interval.value)}{drawn}</td>"


def _is_best(router: RouterResult | None, result: BenchmarkResult) -> bool:
    if router is None or router.role != "router":
        return False
    values = [other.metrics.apgr_routellm.value for other in result.routers if other.role == "router"]
    return len(values) > 1 and router.metrics.apgr_routellm.value == max(values)


def _quality(result: BenchmarkResult, value: float) -> str:
    return f"{100.0 * value:.1f} %" if result.max_quality == 1.0 else f"{value:.2f} of {result.max_quality:g}"


def _number(value: float) -> str:
    return f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", _MINUS)


def _percent(value: float) -> str:
    return f"{100.0 * value:.1f} %"


def _times(value: float) -> str:
    return _INFINITE if math.isinf(value) else f"{value:.2f}{_TIMES}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(entry)}" for key, entry in value.items())
    return json.dumps(value, ensure_ascii=False)
