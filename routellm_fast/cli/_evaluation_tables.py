"""Prints evaluations as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table

from routellm_fast.evaluation.results import BenchmarkResult, RouterResult
from routellm_fast.interval import Interval

# Width where the output is no terminal: enough for each row to stay on one line.
_PLAIN_WIDTH: Final = 200
# On terminals with fewer columns an interval is printed below its number.
_WIDE: Final = 150
_TITLES: Final = {"mmlu": "MMLU", "gsm8k": "GSM8K", "mt_bench": "MT-Bench"}


def print_benchmark(result: BenchmarkResult, *, with_domains: bool) -> None:
    """Print one benchmark: a table of routers, their differences, notes and, if asked for, a table of domains."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_PLAIN_WIDTH)
    for line in _head(result):
        console.print(printable(line))
    console.print(_routers(result, between=" " if console.width >= _WIDE else "\n"))
    for line in _foot(result):
        console.print(printable(line))
    if with_domains and (domains := _domains(result)) is not None:
        console.print()
        console.print(domains)
    console.print()


def printable(text: str) -> str:
    """Return text without control characters, which names of models, routers and domains from files may hold."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _head(result: BenchmarkResult) -> Iterator[str]:
    best, quality = result.best_single
    left_out = f", {result.dropped:,} contaminated ones left out" if result.dropped else ""
    yield f"{_TITLES.get(result.name, result.name)}: {result.prompts:,} prompts{left_out}"
    yield (
        f"quality: {_quality(result.strong_quality, result)} {result.strong_model} (strong), "
        f"{_quality(result.weak_quality, result)} {result.weak_model} (weak); best single model: {best}, "
        f"{_quality(quality, result)}"
    )


def _quality(value: float, result: BenchmarkResult) -> str:
    return f"{value:.1%}" if result.max_quality == 1.0 else f"{value:.2f} of {result.max_quality:g}"


def _routers(result: BenchmarkResult, *, between: str) -> Table:
    table = Table(box=None, pad_edge=False)
    has_dollars = any(row.metrics.dollar_saving_cpt50 is not None for row in result.routers)
    table.add_column("router", overflow="fold")
    titles = ["APGR, RouteLLM's code", "APGR, paper", "CPT(20 %)", "CPT(50 %)", "CPT(80 %)", "fewer strong calls"]
    for title in [*titles, "cost saved"] if has_dollars else titles:
        table.add_column(title, justify="right")
    for row in result.routers:
        table.add_row(*_cells(row, between, has_dollars=has_dollars))
    return table


def _cells(row: RouterResult, between: str, *, has_dollars: bool) -> list[str]:
    metrics = row.metrics
    cells = [
        printable(row.name),
        _plain(metrics.apgr_routellm, between),
        _plain(metrics.apgr_paper, between),
        f"{metrics.cpt20.value:.1%}",
        _share(metrics.cpt50, between),
        _share(metrics.cpt80, between),
        f"{metrics.saving_cpt50.value:.2f}x {metrics.saving_cpt80.value:.2f}x",
    ]
    if has_dollars:
        first, second = metrics.dollar_saving_cpt50, metrics.dollar_saving_cpt80
        cells.append("" if first is None or second is None else f"{first.value:.2f}x {second.value:.2f}x")
    return cells


def _plain(interval: Interval, between: str = " ") -> str:
    comma = ", " if between == " " else ","
    return f"{interval.value:.3f}{between}[{interval.low:.3f}{comma}{interval.high:.3f}]"


def _share(interval: Interval, between: str) -> str:
    comma = ", " if between == " " else ","
    return f"{interval.value:.1%}{between}[{100.0 * interval.low:.0f}{comma}{100.0 * interval.high:.0f}]"


def _foot(result: BenchmarkResult) -> Iterator[str]:
    for difference in result.differences:
        apgr = difference.apgr
        verdict = "ahead" if apgr.low > 0.0 else "behind" if apgr.high < 0.0 else "no clear difference"
        yield (
            f"{difference.router} less {difference.other}: APGR {apgr.value:+.3f} [{apgr.low:+.3f}, {apgr.high:+.3f}], "
            f"{verdict}"
        )
    for note in result.notes:
        yield f"note: {note}"


def _domains(result: BenchmarkResult) -> Table | None:
    rows = [row for row in result.routers if row.by_domain]
    if not rows:
        return None
    table = Table(box=None, pad_edge=False)
    table.add_column("domain")
    for title in ("prompts", "gap", *(printable(row.name) for row in rows)):
        table.add_column(title, justify="right")
    # The domains with the largest gap between the models come first.
    domains = rows[0].by_domain
    for domain in sorted(domains, key=lambda name: (-domains[name].gap, name)):
        found = [row.by_domain[domain].apgr for row in rows]
        shown = ["no clear gap" if apgr is None else _plain(apgr) for apgr in found]
        table.add_row(printable(domain), f"{domains[domain].prompts:,}", f"{domains[domain].gap:+.3f}", *shown)
    return table
