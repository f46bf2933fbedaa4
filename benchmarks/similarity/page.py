"""sw_ranking's part of a report as Markdown."""

# ruff: noqa: RUF001 - multiplication signs and dashes are what a reader expects

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.harness.reports import Report
from benchmarks.harness.tables import bound, count, number, ratio, table
from benchmarks.similarity.names import SW_COMPRESSED, SW_FLOAT32, SW_NAMES


def similarity_parts(report: Report) -> list[str]:
    """Return the sections on sw_ranking."""
    one, quality = report["sw_one"], report["sw_quality"]
    return [
        "## sw_ranking",
        (
            f"{count(one['battles'])} battles on {count(one['dim'])}-d embeddings with the shape of "
            f"text-embedding-3-small's ({count(one['rows'])} distinct), ten tiers. One query a call, never the same "
            f"twice in a row, in stretches of a few by turns; {count(one['queries']['in_turn'])} queries. faiss and "
            "usearch only look for the ten nearest battles: they scan the same vectors and weigh, sum and solve "
            f"nothing. Every call includes one clock read, {one['clock_ns']:.0f} ns."
        ),
        _one_table(report),
        (
            "*Ratio*: the time of this contender over that of ours, query by query. RouteLLM is so slow "
            "that it stands beside ours for a few queries only."
        ),
        _compressed_table(report),
        (
            f"A bare read of the {one['bytes'] / 1e6:.0f} MB of distinct float32 rows takes "
            f"{number(one['bare_reads_us'][one['yardstick']] / 1e3)} ms ({one['yardstick']}, the fastest of "
            f"{len(one['bare_reads_us'])}: {_reads(one)}); {SW_FLOAT32} takes {number(one['times_yardstick'])} × that."
        ),
        "### How exact",
        (
            f"Win rates of {count(quality['queries'])} queries; their own standard deviation is "
            f"{quality['spread']:.1e}. *Bound*: what the router states, within which a decision is rescored exactly."
        ),
        _quality_table(report),
        *_solver_sentence(report),
        f"### A batch of {report['sw_batches'][0]['batch']}",
        "µs a query, the same number of threads for everybody. numpy: one matrix product and the collapsed refit.",
        _batch_table(report),
        "### Cost against the number of battles",
        (
            "Each number of battles in a process of its own. A query reads so many bytes; the bare read, in turn with "
            "it, reads as many. *Private memory*: what building the router added to the process, against the bytes of "
            "its distinct float32 rows."
        ),
        _battles_table(report),
        _loaded_table(report),
        "### Text → decision",
        _text_sentence(report),
        _text_table(report),
        (
            "`routellm-fast route --router DIR --jsonl`, prompts as JSON lines on standard input. p50 and p99 are the "
            "microseconds that it prints with each decision; *wall* is the whole process, less one with a single "
            "prompt, on the same prompts again and again."
        ),
        _command_table(report),
    ]


def _reads(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number(value / 1e3)} ms" for name, value in one["bare_reads_us"].items())


def _one_table(report: Report) -> str:
    one = report["sw_one"]
    ours = _ours(one["ratio_to"])
    rows = [
        [
            name,
            *(number(found[key] / 1e3) for key in ("p50_us", "p95_us", "p99_us")),
            *(ratio(one["ratio_to"][mine][name]) for mine in ours),
        ]
        for name, found in one["in_turn"].items()
    ]
    rows += [
        [name, number(value / 1e3), "—", "—", *(ratio(one["routellm_ratio_to"][mine]) for mine in ours)]
        for name, value in one["routellm_us"].items()
    ]
    return table(["ms a query", "p50", "p95", "p99", *(f"ratio to {_short(mine)}" for mine in ours)], rows)


def _compressed_table(report: Report) -> str:
    one = report["sw_one"]
    rows = [
        [
            name,
            *(number(one["median_of_rounds"][name][key]) for key in ("p50_us", "p95_us", "p99_us")),
            *(number(one["single_calls"][name][key]) for key in ("p50_us", "p99_us", "max_us")),
        ]
        for name in SW_COMPRESSED
    ]
    header = [f"µs, {count(one['queries']['of_compressed'])} queries", "p50", "p95", "p99"]
    return table([*header, "any call p50", "any call p99", "any call max"], rows)


def _quality_table(report: Report) -> str:
    found = report["sw_quality"]["of"]
    rows = [
        [
            name,
            *(bound(entry[key]) for key in ("max_difference", "p99_difference", "max_difference_to_float32")),
            bound(entry["error_bound"]),
            bound(entry["max_difference_to_routellm"]) if "max_difference_to_routellm" in entry else "not measured",
        ]
        for name, entry in found.items()
    ]
    header = ["win rates within", "of float64", "of float64, p99", "of float32", "bound", "of RouteLLM"]
    return table(header, rows)


def _solver_sentence(report: Report) -> list[str]:
    away = report["sw_quality"].get("max_difference_of_routellm_solver")
    if away is None:
        return []
    where = "RouteLLM's solver stops before the maximum of the likelihood"
    return [f'{where}. `solver="routellm"` stops where it does: within {bound(away)} of RouteLLM.']


def _batch_table(report: Report) -> str:
    entries = report["sw_batches"]
    ours = _ours(entries[0]["ratio_to"])
    header = [""]
    for entry in entries:
        header.append(f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}")
        header += [f"ratio to {_short(mine)}" for mine in ours]
    rows = []
    for name in entries[0]["us"]:
        row = [name]
        for entry in entries:
            row.append(number(entry["us"][name]))
            row += [f"{number(entry['ratio_to'][mine][name]['median'])} ×" for mine in ours]
        rows.append(row)
    return table(header, rows)


def _battles_table(report: Report) -> str:
    rows = [
        [
            count(entry["battles"]),
            entry["precision"],
            *(number(entry[key] / 1e3) for key in ("p50_us", "p99_us")),
            number(entry["bytes_per_query"] / 1e6),
            number(entry["gb_per_s"]),
            f"{number(entry['times_yardstick'])} ×",
            bound(entry["max_difference_to_float32"]),
            bound(entry["max_difference_to_float64"]),
            bound(entry["error_bound"]),
            number(entry["private_bytes"] / 1e6),
            f"{number(100 * entry['private_bytes'] / entry['bank_bytes'])} %",
            number(entry["build_s"]),
        ]
        for entry in report["sw_by_battles"]
    ]
    header = ["battles", "precision", "p50 ms", "p99 ms", "MB a query", "GB/s", "times a bare read"]
    queries = report["sw_by_battles"][0]["queries"]
    header += [
        f"within, of float32 on {count(queries)} queries",
        "bound",
        "private MB",
        "of the rows' bytes",
        "build s",
    ]
    return table(header, rows)


def _loaded_table(report: Report) -> str:
    rows = [
        [
            count(entry["battles"]),
            entry["precision"],
            number(entry["loaded"]["load_ms"]),
            *(number(entry["loaded"][key] / 1e6) for key in ("directory_bytes", "private_bytes", "shared_bytes")),
        ]
        for entry in report["sw_by_battles"]
        if entry["loaded"] is not None
    ]
    header = ["battles", "from a directory", "load ms", "directory MB", "private MB", "mapped and resident MB"]
    return table(header, rows)


def _text_sentence(report: Report) -> str:
    found = report["sw_text"]
    router = found["routers"][SW_FLOAT32]
    return (
        f"{count(found['prompts'])} {found['source']}, one call each, shuffled, with the static embedder that ships "
        f"({router['dim']} dimensions) and {count(router['battles'])} battles on other texts. The threshold is the "
        "median win rate, where decisions are closest. *Rescored*: decisions within the stated bound, which `route` "
        "computes exactly."
    )


def _text_table(report: Report) -> str:
    found = report["sw_text"]
    rows = []
    for name, entry in found["contenders"].items():
        quality = found["quality"][name.partition(",")[0]]
        rows.append(
            [
                name,
                *(number(entry[key]) for key in ("p50_us", "p95_us", "p99_us", "max_us")),
                *_decisions(quality, found["prompts"], is_route=name.endswith("route")),
            ]
        )
    return table(["µs a prompt", "p50", "p95", "p99", "max", "decisions as float32", "rescored"], rows)


def _decisions(quality: dict[str, Any], prompts: int, *, is_route: bool) -> Iterable[str]:
    if not is_route:
        return "—", "—"
    return f"{count(quality['decisions_equal'])} of {count(prompts)}", count(quality["rescored"])


def _command_table(report: Report) -> str:
    rows = [
        [
            name,
            *(number(found[key]) for key in ("p50_us", "p99_us", "wall_us_a_prompt")),
            number(found["start_and_one_prompt_ms"]),
        ]
        for name, found in report["sw_command"].items()
    ]
    return table(["µs a prompt", "p50", "p99", "wall", "start, load and one prompt, ms"], rows)


def _ours(found: Iterable[str]) -> list[str]:
    """Return our contenders in the order of SW_NAMES; JSON sorts them by name."""
    return [name for name in SW_NAMES.values() if name in set(found)]


def _short(name: str) -> str:
    return next((precision for precision, known in SW_NAMES.items() if known == name), name)
