"""The Triton report's JSON as Markdown. Pure: every figure comes from the JSON."""

# ruff: noqa: RUF001 - multiplication signs are what a reader expects

from __future__ import annotations

from typing import Any, Final

from benchmarks.harness import machine
from benchmarks.harness.reports import Report, command_of
from benchmarks.harness.tables import count, number, table
from benchmarks.triton.names import TRITON_OURS

MOST_OF_TRIVIAL: Final = 1.2
# Where the tables stand in docs/performance.md.
MARKERS: Final = ("<!-- triton:begin -->", "<!-- triton:end -->")


def render(report: Report) -> str:
    """Return the whole report."""
    about = report["machine"]
    prompts = report["prompts"]
    parts = [
        "# The Triton backend",
        (f"Measured {about['date']} by `{command_of(report)}` in Triton {report['server']} on: {machine.line(about)}."),
    ]
    if report["effort"] != "full":
        parts.append(f"**A {report['effort']} run: it shows that the benchmark works. Its figures mean nothing.**")
    parts += [f"Left out: {name}, as {reason}." for name, reason in sorted(report["missing"].items())]
    parts += [
        (
            f"One server holds all contenders, each once with a request at a time (*alone*) and once with dynamic "
            f"batching and no delay (*batched*). They take turns; server and clients share the cores. Prompts: "
            f"{count(prompts['count'])} {prompts['source']}, shuffled, one a request; all three outputs are asked for. "
            "Requests are bytes that were made before the clock ran: what is timed is the server and a socket."
        ),
        quality(report),
        "## One client",
        (
            "µs; a prompt's figure is its median over rounds, percentiles are over prompts. *× trivial*: the median of "
            "each prompt's ratio to the trivial backend, which looks at a byte and gives constants."
        ),
        _one_client(report["one_client"]),
        budget(report),
        "## Many clients",
        (
            "Requests a second, each client sending its next request once it has an answer; p50 and p99 in µs. The "
            "gRPC clients are threads of one Python process and bound the rate themselves."
        ),
        _many_clients(report["many_clients"]),
        "## Starting",
        (
            "A server with that one model, started and asked every 2 ms; proportional resident memory (Pss) of the "
            "server and what it starts, once ready."
        ),
        _starting(report["starting"]),
        (
            f"Load averages of 1, 5 and 15 minutes: {_loads(report['loads']['before'])} before, "
            f"{_loads(report['loads']['after'])} after."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def tables(report: Report) -> str:
    """Return what docs/performance.md shows: one client, many clients, starting."""
    parts = (
        _one_client(report["one_client"]),
        budget(report),
        quality(report),
        _many_clients(report["many_clients"]),
        _starting(report["starting"]),
        f"{machine.line(report['machine'])}; Triton {report['server']}. `{command_of(report)}`.",
    )
    return "\n\n".join(parts) + "\n"


def quality(report: Report) -> str:
    """Return what the answers were held against."""
    parts = [
        f"{name}: {count(found['equal_to_the_bit'])} of {count(found['of'])}"
        for name, found in sorted(report["decisions"].items())
    ]
    head = (
        "Win rates, decisions and models equal to the bit to the same router in process, by each protocol and batching"
    )
    return f"{head}: {'; '.join(parts)}."


def budget(report: Report) -> str:
    """Return whether one gRPC request keeps within its bound."""
    found = report["one_client"]["gRPC, alone"][TRITON_OURS]["ratio_to_trivial"]["median"]
    verdict = "met" if found <= MOST_OF_TRIVIAL else "**not met**"
    return f"One gRPC request, p50, at most {MOST_OF_TRIVIAL} × the trivial backend: {found:.2f} ×, {verdict}."


def _one_client(found: dict[str, Any]) -> str:
    rows = [
        [way, name, *(number(figures[key]) for key in ("p50_us", "p95_us", "p99_us")),
         f"{figures['ratio_to_trivial']['median']:.2f} ×"]
        for way, contenders in sorted(found.items())
        for name, figures in sorted(contenders.items())
    ]  # fmt: skip
    return table(("protocol, batching", "contender", "p50", "p95", "p99", "× trivial"), rows)


def _many_clients(found: dict[str, Any]) -> str:
    def order(way: str) -> tuple[str, int]:
        head, _, clients = way.rpartition(", ")
        return head, int(clients)

    rows = [
        [way, name, *(count(figures[key]) for key in ("requests_per_s", "p50_us", "p99_us"))]
        for way in sorted(found, key=order)
        for name, figures in sorted(found[way].items())
    ]
    return table(("protocol, batching, clients", "contender", "requests/s", "p50", "p99"), rows)


def _starting(found: dict[str, Any]) -> str:
    rows = [
        [name, f"{number(figures['ready_ms'])} ms", f"{number(figures['resident_mb'])} MB",
         "yes" if figures["runs_python"] else "no"]
        for name, figures in sorted(found.items())
    ]  # fmt: skip
    return table(("server with", "ready after", "resident", "runs Python"), rows)


def _loads(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
