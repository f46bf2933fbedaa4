"""The gateway report's JSON as Markdown. Pure: every figure comes from the JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.gateway.budgets import BUDGETS
from benchmarks.gateway.names import DIRECT, FLOOR, ONE_WORKER, OURS, TWO_WORKERS
from benchmarks.harness import machine
from benchmarks.harness.budgets import budget_table
from benchmarks.harness.reports import Report, command_of
from benchmarks.harness.tables import count, number, table

# Where the tables stand in docs/performance.md.
MARKERS: Final = ("<!-- gateway:begin -->", "<!-- gateway:end -->")


def render(report: Report) -> str:
    """Return the whole report."""
    about = report["machine"]
    parts = [
        "# The gateway",
        f"Measured {about['date']} by `{command_of(report)}` on: {machine.line(about)}; {_versions(report)}.",
    ]
    if report["effort"] != "full":
        parts.append(f"**A {report['effort']} run: it shows that the benchmark works. Its figures mean nothing.**")
    parts += [budget_table(BUDGETS, report), *_left_out(report), _set_up(report), *_sections(report), _loads(report)]
    return "\n\n".join(parts) + "\n"


def tables(report: Report) -> str:
    """Return what docs/performance.md shows."""
    parts = [
        budget_table(BUDGETS, report),
        *_left_out(report),
        _set_up(report),
        *_sections(report),
        f"{machine.line(report['machine'])}; {_versions(report)}. `{command_of(report)}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _sections(report: Report) -> list[str]:
    parts = [
        "One request at a time, milliseconds; *added*: what a percentile exceeds the same one without a gateway by.",
        _latencies(report["one_client"]),
    ]
    for rate, found in sorted(report["rates"].items(), key=lambda item: int(item[0])):
        parts += [
            (
                f"{count(int(rate))} requests a second, sent when they are due whatever the gateway does; milliseconds "
                "from the moment at which each was due. The clients sent 99 % of them at most "
                f"{number(_latest_ms(found))} ms late."
            ),
            _latencies(found),
        ]
    for clients, found in report["clients"].items():
        parts += [
            (
                f"{clients} clients, each sending its next request once it has an answer. *Processor time*: of the "
                "gateway alone, a request."
            ),
            _many(found),
        ]
        if OURS in found and FLOOR in found and "cpu_us" in found[OURS] and "cpu_us" in found[FLOOR]:
            parts.append(_share(found))
    for at_once, found in report["streams"].items():
        parts += [
            (
                f"Streams, {at_once} at once, an event each 5 ms; milliseconds to the first event, and from a word's "
                "being sent by the models' server to its arrival."
            ),
            _streams(found),
        ]
    parts += [
        "Streams that have begun and say nothing: memory of the gateway's processes (Pss).",
        _idle(report["idle_streams"]),
        _workers(report),
    ]
    return parts


def _set_up(report: Report) -> str:
    cores, prompts = report["cores"], report["prompts"]
    if cores["upstream"] == cores["clients"]:
        where = (
            f"Each gateway runs on core {_list(cores['gateway'])} alone; clients and the models' server share core "
            f"{_list(cores['clients'])}."
        )
    else:
        where = (
            f"Each gateway runs on core {_list(cores['gateway'])} alone, the models' server on core "
            f"{_list(cores['upstream'])}, the clients on core {_list(cores['clients'])}."
        )
    return (
        f"{where} All gateways run at the same time and take turns. The models' server answers at once, and each time "
        "alike; its answer and each gateway's are compared. Requests are bytes that were made before time ran: "
        f"{count(prompts['count'])} {prompts['source']} of {count(prompts['median_chars'])} characters at the median. "
        "Ours reads each of them, decides by the `mf` router that ships, counts and logs; RouteLLM's server decides by "
        "a random number; the others ask for a model by name. LiteLLM checks no key, and TensorZero records nothing. "
        f"Our win rates and models are those of the same router in process on {_decisions(report)} prompts."
    )


def _decisions(report: Report) -> str:
    found = report["answers"][OURS]
    return f"{count(found['decisions_equal'])} of {count(found['of'])}"


def _left_out(report: Report) -> list[str]:
    return [f"Left out: {name}, as {reason}." for name, reason in sorted(report["missing"].items())]


def _versions(report: Report) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(report["versions"].items())) or "no peers"


def _rows(
    found: Mapping[str, Mapping[str, Any]], columns: int, cells: Any, order: str = "p50_ms"
) -> list[Sequence[str]]:
    """Return a row for each contender, the best first; one that failed says why."""
    rows: list[Sequence[str]] = []
    for name in sorted(found, key=lambda name: (name != DIRECT, "failed" in found[name], found[name].get(order, 0.0))):
        figures = found[name]
        shown = f"**{name}**" if name == OURS else name
        if "failed" in figures:
            rows.append([shown, f"failed: {figures['failed']}".replace("|", "\\|"), *[""] * (columns - 1)])
        else:
            rows.append([shown, *cells(name, figures)])
    return rows


def _latencies(found: Mapping[str, Mapping[str, Any]]) -> str:
    def cells(name: str, figures: Mapping[str, Any]) -> list[str]:
        if not figures.get("is_carried", True):
            return [f"does not carry it: {count(figures['per_s'])} a second", "", "", "", ""]
        added = ["", ""] if name == DIRECT else [number(figures[f"added_{p}_ms"]) for p in ("p50", "p99")]
        return [*(number(figures[f"{p}_ms"]) for p in ("p50", "p95", "p99")), *added]

    return table(("through", "p50", "p95", "p99", "added, p50", "added, p99"), _rows(found, 5, cells))


def _latest_ms(found: Mapping[str, Mapping[str, Any]]) -> float:
    """Return how late the clients were at the worst, with contenders that carry the rate."""
    late_ms = [figures["late_p99_ms"] for figures in found.values() if figures.get("is_carried")]
    return max(late_ms, default=float("nan"))


def _many(found: Mapping[str, Mapping[str, Any]]) -> str:
    def cells(name: str, figures: Mapping[str, Any]) -> list[str]:
        return [
            count(figures["per_s"]),
            number(figures["p50_ms"]),
            number(figures["p99_ms"]),
            "" if name == DIRECT else f"{count(figures['cpu_us'])} µs",
            "" if name == DIRECT else f"{figures['cpu_share']:.0%}",
            f"{figures['upstream_and_clients_share']:.0%}",
        ]

    head = ("through", "requests/s", "p50", "p99", "processor time", "gateway busy", "clients and models' server busy")
    return table(head, _rows(found, 6, cells))


def _share(found: Mapping[str, Mapping[str, Any]]) -> str:
    ours, floor = found[OURS]["cpu_us"], found[FLOOR]["cpu_us"]
    return (
        f"Of our {count(ours)} µs a request, the bare proxy, which neither reads, decides, counts nor logs, takes "
        f"{count(floor)} µs ({floor / ours:.0%}) in the same Python libraries."
    )


def _streams(found: Mapping[str, Mapping[str, Any]]) -> str:
    def cells(name: str, figures: Mapping[str, Any]) -> list[str]:
        row = []
        for what in ("first", "word"):
            row += [number(figures[what]["p50_ms"]), number(figures[what]["p99_ms"])]
            row.append("" if name == DIRECT else number(figures[what]["added_p50_ms"]))
        return row

    flat = {name: {**figures, **figures.get("word", {})} for name, figures in found.items()}
    head = ("through", "first, p50", "p99", "added, p50", "word, p50", "p99", "added, p50")
    return table(head, _rows(flat, 6, cells))


def _idle(found: Mapping[str, Mapping[str, Any]]) -> str:
    def cells(name: str, figures: Mapping[str, Any]) -> list[str]:
        del name
        each = f"{number(figures['kb_each'])} kB" if figures["streams"] else ""
        before, during = (f"{number(figures[f'{when}_mb'])} MB" for when in ("before", "during"))
        return [count(figures["streams"]), before, during, each]

    head = ("through", "streams that began", "before", "with them", "a stream")
    return table(head, _rows(found, 4, cells, "kb_each"))


def _workers(report: Report) -> str:
    found = report["workers"]
    cores = sorted({*report["cores"]["workers"], *report["cores"]["beside_workers"]})
    rows = [
        [name, *(
            [f"failed: {figures['failed']}", "", "", ""] if "failed" in figures else
            [count(figures["per_s"]), number(figures["p50_ms"]), f"{figures['cpu_share']:.0%}",
             f"{figures['upstream_and_clients_share']:.0%}"]
        )]
        for name in (ONE_WORKER, TWO_WORKERS)
        if (figures := found[name])
    ]  # fmt: skip
    shared = (
        "the gateway, clients and models' server may all use them, so that two workers have no two free cores"
        if set(report["cores"]["workers"]) & set(report["cores"]["beside_workers"])
        else f"the gateway those of {_list(report['cores']['workers'])}, clients and models' server the others"
    )
    return (
        f"`--workers 2` beside `--workers 1`, {found['clients']} clients, on cores {_list(cores)}: {shared}.\n\n"
        + table(("gateway", "requests/s", "p50", "gateway busy", "clients and models' server busy"), rows)
    )


def _loads(report: Report) -> str:
    before, after = (", ".join(f"{value:g}" for value in report["loads"][when]) for when in ("before", "after"))
    return f"Load averages of 1, 5 and 15 minutes: {before} before, {after} after."


def _list(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)
