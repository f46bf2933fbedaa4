"""A report's JSON as Markdown. Pure: every figure comes from the JSON, and equal JSON gives equal text."""

# ruff: noqa: RUF001 - multiplication signs and dashes are what a reader expects

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from budget import Report
from budgets import apgr, budget_table, budgets_of, measured
from names import MF_LOGITS, MODEL2VEC, NUMPY, ROUTELLM, TOKENIZERS
from render_similarity import similarity_parts
from tables import count, number, ratio, table

BEGIN: Final = "<!-- benchmark:begin -->"
END: Final = "<!-- benchmark:end -->"

_SUITES: Final = (
    "pytest-benchmark's own figures, one contender after the other: not interleaved, so compare roughly, and within a "
    "group. The result of each is asserted."
)
_LOADS: Final = (
    "Load averages of 1, 5 and 15 minutes. One busy thread of ours makes a load of 1; more is somebody else's noise."
)
_NOT_TIMED: Final = (
    "Loading and first calls, except under *Import and loading*: every contender runs untimed first.",
    "Embedding services, HTTP, the gateway: RouteLLM's service is replaced by a look-up.",
    "Several threads, and GPUs.",
    "Surface features for the peers: model2vec's decision is made without them, which spares it work.",
    "Training, calibration and evaluation. APGR is taken from the router's own provenance.",
    "Python's garbage collector, which is off while the clock runs.",
)


def render(report: Report) -> str:
    """Return the whole report."""
    machine = report["machine"]
    parts = [
        "# Benchmarks of routellm-fast",
        f"Measured {machine['date']} by `{report['command']}` on: {machine_line(machine)}.",
        f"Raw figures: [{report['file']}]({report['file']}).",
    ]
    if report["effort"] != "full":
        parts.append(f"**A {report['effort']} run: it shows that the benchmarks work. Its figures mean nothing.**")
    parts += _warnings(report)
    router = report["router"]
    parts += [
        "## Budgets",
        "One thread. *Peers*: how many times as long a peer takes, measured in the same run, turn by turn.",
        budget_table(report),
        f"The router: {router['kind']}, {router['embedder']}, {router['dim']} dimensions. APGR: {apgr(report)}.",
        *_text_parts(report),
        *_embedding_parts(report),
        *(similarity_parts(report) if "sw_one" in report else ()),
        *_import_parts(report),
        "## Suites",
        _SUITES,
        _suite_table(report),
        "## Not timed",
        "\n".join(f"- {line}" for line in _NOT_TIMED),
        "## How quiet the machine was",
        _LOADS,
        _load_table(report),
    ]
    return "\n\n".join(parts) + "\n"


def _text_parts(report: Report) -> list[str]:
    text = report["text"]
    characters = {name: count(value) for name, value in text["characters"].items()}
    return [
        "## Text → decision",
        (
            f"{count(text['prompts'])} {text['source']}, one call each, shuffled; {characters['p50']} characters at "
            f"the median, {characters['p99']} at p99, {characters['p100']} at most. A prompt's figure is its median "
            f"over {text['rounds']} rounds; p50, p95, p99, max and mean are over prompts. *Any call*: over all single "
            "calls of all rounds, with whatever else the machine did. Every call includes one clock read, "
            f"{text['clock_ns']:.0f} ns."
        ),
        _text_table(report),
        "*Ratio*: the time of this contender over that of `route`, prompt by prompt.",
        f"### In batches of {report['throughput']['batch']}",
        _throughput_table(report),
        "### Cost against length",
        (
            "ASCII text made of natural prompts, median µs a call. All read at most 512 tokens; `tokenizers` gets "
            "its text cut as model2vec cuts it, because by itself it reads to the end."
        ),
        _sweep_table(report["by_length"], "characters", text["contenders"]),
        "### Cost against batch size",
        "The same natural prompts in batches of every size, median µs a prompt.",
        _sweep_table(report["by_batch"], "batch", text["contenders"]),
    ]


def _embedding_parts(report: Report) -> list[str]:
    one, many = report["mf_one"], report["mf_many"]
    rows, columns = (count(size) for size in many["shape"])
    return [
        "## mf on embeddings",
        (
            f"RouteLLM's shape: 64 models, {count(one['dim'])} dimensions; random weights. µs a call, median of blocks "
            f"of {one['embeddings']} calls in a plain `for` loop over different embeddings."
        ),
        _one_table(report),
        (
            f"p50 to p99 are of single calls, which include one clock read ({one['clock_ns']:.0f} ns). RouteLLM turns "
            "the list of floats that its service answers into a tensor; *spared the list* hands it an array instead. "
            "*Through CachedEmbedder* begins with the prompt's text and finds its embedding in memory."
        ),
        f"### A batch of {rows} × {columns} float32",
        (
            f"{many['bytes'] / 1e6:.1f} MB, median of {many['rounds']} turns. The yardstick is the fastest of "
            f"{len(many['readers'])} bare reads of the same bytes in this run: {many['yardstick']}."
        ),
        _many_table(report),
        "### All models at once",
        _all_models_table(report),
    ]


def _import_parts(report: Report) -> list[str]:
    found = report["import"]
    return [
        "## Import and loading",
        (
            f"Medians of {found['interpreters']} fresh interpreters each; files in the page cache, bytecode compiled. "
            f"Must not be loaded: {', '.join(found['heavy_modules_looked_for'])}. Loaded of these: "
            f"{', '.join(found['heavy_modules_loaded']) or 'none'}."
        ),
        _import_table(report),
    ]


def headline(report: Report) -> str:
    """Return what stands in the project's README."""
    machine = report["machine"]
    rows = [
        [budget.stage, measured(budget, report), budget.peer(report), budget.quality(report)]
        for budget in budgets_of(report)
    ]
    return (
        f"{table(['stage, one thread', 'measured', 'peers in the same run', 'quality'], rows)}\n\n"
        f"{machine_line(machine)}. `make benchmark`, {machine['date']}; all of it in "
        "[benchmarks/results/latest.md](benchmarks/results/latest.md)."
    )


def splice(document: Path, report: Report) -> None:
    """Put the headline table between its two markers in a Markdown file. See splice_between."""
    splice_between(document, (BEGIN, END), headline(report) + "\n")


def splice_between(document: Path, markers: tuple[str, str], text: str) -> None:
    """Replace what stands between two markers of a Markdown file. Raises ValueError where they are missing."""
    content = document.read_text(encoding="utf-8")
    before, begin, rest = content.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"{document} has no {markers[0]} … {markers[1]} to fill")
    document.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


def machine_line(machine: dict[str, Any]) -> str:
    """Return machine, build and versions in one sentence."""
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    blas = ", ".join(sorted({f"{pool['internal_api']} {pool['architecture']}" for pool in machine["blas"]}))
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    forced = " (forced)" if machine["isa_forced"] else ""
    return (
        f"{machine['cpu']} ({machine['cpu_id']}), {machine['cores']} cores, {caches}, {machine['memory_gib']} GiB; "
        f"kernels {machine['isa']}{forced} of {', '.join(machine['isa_available'])}; BLAS kernels {blas or 'unknown'}; "
        f"{machine['compiler'] or 'compiler unknown'}; commit {machine['commit'] or 'unknown'}; "
        f"Python {machine['python']}, {versions}"
    )


def _warnings(report: Report) -> list[str]:
    parts = [f"- {name}: {reason}" for name, reason in sorted(report["missing"].items())]
    if report["suites_exit_code"]:
        parts.append(f"- The suites failed: pytest exit code {report['suites_exit_code']}")
    return ["**Missing or failed**\n\n" + "\n".join(parts)] if parts else []


def _text_table(report: Report) -> str:
    keys = ("p50_us", "p95_us", "p99_us", "max_us", "mean_us")
    rows = [
        [
            name,
            *(number(found[key]) for key in keys),
            number(found["single_call_p99_us"]),
            number(found["single_call_p999_us"]),
            number(found["ascii_p50_us"]),
            number(found["non_ascii_p50_us"]),
            count(found["per_s"]),
            ratio(report["text"]["ratio_to_route"][name]),
        ]
        for name, found in report["text"]["contenders"].items()
    ]
    header = ["µs", "p50", "p95", "p99", "max", "mean", "any call p99", "any call p99.9", "p50 ASCII", "p50 other"]
    return table([*header, "prompts/s, a call each", "ratio (p5 – p95; of totals)"], rows)


def _throughput_table(report: Report) -> str:
    found = report["throughput"]
    rows = [
        [name, count(value), ratio(found["ratio_to_route"][name])] for name, value in found["prompts_per_s"].items()
    ]
    return table(["", "prompts/s on one core", "ratio (p5 – p95; of totals)"], rows)


def _sweep_table(rows: list[dict[str, Any]], key: str, contenders: Iterable[str]) -> str:
    names = list(contenders)
    body = [
        [count(row[key]), *(number(row["us"][name]) for name in names)]
        + [f"{number(row['ratio_to_ours'][name]['median'])} ×" for name in names if name in (MODEL2VEC, TOKENIZERS)]
        for row in rows
    ]
    ratios = [f"ratio to {name}" for name in names if name in (MODEL2VEC, TOKENIZERS)]
    return table([key, *names, *ratios], body)


def _one_table(report: Report) -> str:
    one = report["mf_one"]
    rows = [
        [
            name,
            number(value),
            number(one["us_a_call_same_embedding"].get(name)) if name in one["us_a_call_same_embedding"] else "—",
            *(
                number(one["single_calls"][name][key]) if name in one["single_calls"] else "—"
                for key in ("p50_us", "p95_us", "p99_us")
            ),
            ratio(one["ratio_to_ours"][name]),
        ]
        for name, value in one["us_a_call"].items()
    ]
    header = ["µs a call", "in turn", "the same again", "p50", "p95", "p99", "ratio (p5 – p95; of totals)"]
    return table(header, rows)


def _many_table(report: Report) -> str:
    many = report["mf_many"]
    rows = [
        [
            name,
            number(value * many["shape"][0] / 1e3),
            number(many["gb_per_s"][name]),
            f"{100 * many['share_of_each_reader'][name]:.0f} %" if name in many["share_of_each_reader"] else "—",
        ]
        for name, value in many["us_a_row"].items()
    ]
    if ROUTELLM in many["us_a_row_on_sample"]:
        extrapolated = many["us_a_row_on_sample"][ROUTELLM] * many["shape"][0] / 1e3
        rows.append([f"RouteLLM, from {many['sampled_rows']} rows, one a call", number(extrapolated), "—", "—"])
    return table(["", "ms a batch", "GB/s", "our share of this read's speed"], rows)


def _all_models_table(report: Report) -> str:
    rows = [
        [
            f"{count(row['embeddings'])} × {row['models']} logits",
            *(number(row["us"][name]) for name in (MF_LOGITS, NUMPY)),
            f"{number(row['ratio_to_ours'][NUMPY]['median'])} ×",
        ]
        for row in report["mf_all_models"]
    ]
    return table(["µs a call", MF_LOGITS, "numpy matmul", "ratio"], rows)


def _import_table(report: Report) -> str:
    rows = [
        [f"{program}: {stage}", *(number(found[key]) for key in ("ms", "resident_mb", "peak_mb"))]
        for program, stages in report["import"]["programs"].items()
        for stage, found in stages.items()
        # Every program begins with the bare interpreter; once is enough.
        if stage != "interpreter" or program == "nothing"
    ]
    return table(["program: stage", "ms", "resident MB", "peak MB"], rows)


def _suite_table(report: Report) -> str:
    rows = [
        [
            entry["group"],
            entry["name"],
            number(entry["median_us"]),
            number(entry["iqr_us"]),
            number(entry["min_us"]),
            count(entry["rounds"]),
        ]
        for entry in report["suites"]
    ]
    return table(["group", "benchmark", "median µs", "IQR", "min", "rounds"], rows) if rows else "Not run."


def _load_table(report: Report) -> str:
    rows = [
        [name, " ".join(map(str, found["before"])), " ".join(map(str, found["after"]))]
        for name, found in report["loads"].items()
    ]
    return table(["section", "before", "after"], rows)
