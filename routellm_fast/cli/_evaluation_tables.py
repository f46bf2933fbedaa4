"""Prints the results of a benchmark: the verdict, then tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from routellm_fast.cli._text_tables import show_table, show_text
from routellm_fast.evaluation.results import BenchmarkResult, RouterResult
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.evaluation.verdict import APGR_TITLE, compared, percent, quality_text, verdict_on
from routellm_fast.interval import Interval

_TITLES: Final = {"mmlu": "MMLU", "gsm8k": "GSM8K", "mt_bench": "MT-Bench"}
_CALLS: Final = "saving in strong calls"
_DOLLARS: Final = "saving in dollars"


def print_benchmark(result: BenchmarkResult, *, with_domains: bool, markdown: bool = False) -> None:
    """Print one benchmark: its verdict, a table of routers, their differences, notes and, if asked for, its domains."""
    show_text(*_head(result), *([""] if markdown else []))
    show_table(_routers(result), markdown=markdown)
    show_text(*_foot(result))
    if with_domains and (domains := _domains(result)) is not None:
        show_text("")
        show_table(domains, markdown=markdown)
    show_text("")


def _head(result: BenchmarkResult) -> Iterator[str]:
    best, quality = result.best_single
    yield "; ".join([f"{_TITLES.get(result.name, result.name)}: {result.prompts:,} prompts", *result.left_out])
    if (verdict := verdict_on(result)) is not None:
        yield verdict.headline
        yield from (f"{label}: {text}" for label, text in verdict.points)
    yield (
        f"quality: {quality_text(result, result.strong_quality)} {result.strong_model} (strong), "
        f"{quality_text(result, result.weak_quality)} {result.weak_model} (weak); best single model: {best}, "
        f"{quality_text(result, quality)}"
    )


def _routers(result: BenchmarkResult) -> TextTable:
    has_dollars = any(row.metrics.dollar_saving_cpt50 is not None for row in result.routers)
    heads = ["router", APGR_TITLE, "APGR, paper", "CPT(20 %)", "CPT(50 %)", "CPT(80 %)", _CALLS]
    rows = tuple(tuple(_cells(row, has_dollars=has_dollars)) for row in result.routers)
    return TextTable((*heads, *([_DOLLARS] if has_dollars else [])), rows, frozenset({"router"}))


def _cells(row: RouterResult, *, has_dollars: bool) -> Iterator[str]:
    metrics = row.metrics
    yield row.name
    yield _number(metrics.apgr_routellm)
    yield _number(metrics.apgr_paper)
    yield percent(metrics.cpt20.value)
    yield _share(metrics.cpt50)
    yield _share(metrics.cpt80)
    yield f"{metrics.saving_cpt50.value:.2f}x {metrics.saving_cpt80.value:.2f}x"
    if has_dollars:
        first, second = metrics.dollar_saving_cpt50, metrics.dollar_saving_cpt80
        yield "" if first is None or second is None else f"{first.value:.2f}x {second.value:.2f}x"


def _number(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _share(interval: Interval) -> str:
    return f"{percent(interval.value)} [{100.0 * interval.low:.0f}, {100.0 * interval.high:.0f}]"


def _foot(result: BenchmarkResult) -> Iterator[str]:
    yield "saving: at CPT(50 %) and at CPT(80 %), against random routing of the same quality"
    for difference in result.differences:
        apgr = difference.apgr
        yield (
            f"{difference.router} less {difference.other}: APGR {apgr.value:+.3f} [{apgr.low:+.3f}, {apgr.high:+.3f}], "
            f"{compared(apgr)}"
        )
    for note in result.notes:
        yield f"note: {note}"


def _domains(result: BenchmarkResult) -> TextTable | None:
    rows = [row for row in result.routers if row.by_domain]
    if not rows:
        return None
    heads = ("domain", "prompts", "gap", *(row.name for row in rows))
    # The domains with the largest gap between the models come first.
    domains = rows[0].by_domain
    names = sorted(domains, key=lambda name: (-domains[name].gap, name))
    cells = []
    for domain in names:
        found = [row.by_domain[domain].apgr for row in rows]
        shown = ["no clear gap" if apgr is None else _number(apgr) for apgr in found]
        cells.append((domain, f"{domains[domain].prompts:,}", f"{domains[domain].gap:+.3f}", *shown))
    return TextTable(heads, tuple(cells), frozenset({"domain"}))
