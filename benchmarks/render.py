"""A report's JSON as Markdown. Pure: every figure comes from the JSON, and equal JSON gives equal text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

BEGIN: Final = "<!-- benchmark:begin -->"
END: Final = "<!-- benchmark:end -->"
ROUTE, WIN_RATE, MODEL2VEC, TOKENIZERS = (
    "routellm_fast.route",
    "routellm_fast.win_rate",
    "model2vec + numpy",
    "tokenizers alone",
)
MF_ONE, MF_MANY = "routellm_fast.win_rate_from_embedding", "routellm_fast.win_rates_from_embeddings"

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Budget:
    """One line of the budget table.

    Attributes:
        stage: What is measured.
        unit: Of must, aim and the measured value.
        must: The bound that has to hold; None where there is only an aim.
        aim: The bound that we would like to hold.
        value: Finds the measured value.
        peer: Finds a sentence about peers.
        quality: Finds a sentence about the result's quality.
        at_most: Whether the bounds are upper ones.
    """

    stage: str
    unit: str
    must: float | None
    aim: float | None
    value: Callable[[Report], float]
    peer: Callable[[Report], str]
    quality: Callable[[Report], str]
    at_most: bool = True

    def holds(self, bound: float | None, value: float) -> str:
        """Say whether a bound is met."""
        if bound is None:
            return "—"
        return "yes" if (value <= bound if self.at_most else value >= bound) else "**no**"


def _text_peers(report: Report) -> str:
    ratios = report["text"]["ratio_to_route"]
    parts = [f"{number(ratios[name]['median'])} × {name}" for name in (MODEL2VEC, TOKENIZERS) if name in ratios]
    return ", ".join(parts) or "no peer installed"


def _throughput_peers(report: Report) -> str:
    ratios = report["throughput"]["ratio_to_route"]
    parts = [f"{number(ratios[name]['median'])} × {name}" for name in (MODEL2VEC, TOKENIZERS) if name in ratios]
    return ", ".join(parts) or "no peer installed"


def _one_peers(report: Report) -> str:
    ratios = report["mf_one"]["ratio_to_ours"]
    parts = [f"{number(ratios[name]['median'])} × {name}" for name in ("numpy", "RouteLLM") if name in ratios]
    return ", ".join(parts)


def _many_peers(report: Report) -> str:
    many = report["mf_many"]
    parts = [f"{number(many['ratio_to_ours']['numpy']['median'])} × numpy"]
    if "RouteLLM" in many["ratio_to_ours_on_sample"]:
        parts.append(f"{number(many['ratio_to_ours_on_sample']['RouteLLM']['median'])} × RouteLLM")
    return ", ".join(parts)


def _text_quality(report: Report) -> str:
    found = report["text_quality"]
    if found is None:
        return "not checked: " + report["missing"]["reference path"]
    return (
        f"{count(found['decisions_equal'])} of {count(found['prompts'])} decisions as in float64, win rates within "
        f"{found['max_win_rate_difference']:.0e}"
    )


def _apgr(report: Report) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in report["router"]["apgr"].items()) or "not stated by the router"


def _mf_quality(report: Report) -> str:
    found = report["mf_quality"]
    parts = [f"within {found['max_win_rate_difference']:.0e} of float64"]
    if "max_difference_to_routellm" in found:
        parts.append(f"within {found['max_difference_to_routellm']:.0e} of RouteLLM")
    return ", ".join(parts)


def _loaded(report: Report) -> str:
    heavy = report["import"]["heavy_modules_loaded"]
    return f"loads {', '.join(heavy)}" if heavy else "loads no heavy module"


def _import(report: Report, program: str = "import routellm_fast", stage: str = "import") -> dict[str, float]:
    return report["import"]["programs"][program][stage]


def _numpy_import(key: str, unit: str) -> Callable[[Report], str]:
    return lambda report: f"numpy alone {number(_import(report, 'import numpy')[key])} {unit}"


BUDGETS: Final = (
    Budget(
        "text → decision, one call, p50 over prompts",
        "µs",
        50,
        8,
        lambda r: r["text"]["contenders"][ROUTE]["p50_us"],
        _text_peers,
        _text_quality,
    ),
    Budget(
        "text → decision, one call, p99 over prompts",
        "µs",
        1000,
        None,
        lambda r: r["text"]["contenders"][ROUTE]["p99_us"],
        lambda r: _p99(r, MODEL2VEC),
        _text_quality,
    ),
    Budget(
        "text → decision against model2vec + numpy, median of each prompt's ratio",
        "×",
        10,
        30,
        lambda r: r["text"]["ratio_to_route"].get(MODEL2VEC, {}).get("median", float("nan")),
        lambda r: f"{number(r['text']['ratio_to_route'].get(MODEL2VEC, {}).get('of_totals', float('nan')))} × in total time",
        _text_quality,
        at_most=False,
    ),
    Budget(
        "text → decision, batches of 256, one core",
        "prompts/s",
        None,
        150_000,
        lambda r: r["throughput"]["prompts_per_s"][ROUTE],
        _throughput_peers,
        lambda r: "as one call each, bitwise" if r["text_quality"] else _text_quality(r),
        at_most=False,
    ),
    Budget(
        "mf on a cached 1,536-d embedding, one call",
        "µs",
        3,
        1,
        lambda r: r["mf_one"]["us_a_call"][MF_ONE],
        _one_peers,
        _mf_quality,
    ),
    Budget(
        "mf batch, share of a bare read's speed",
        "%",
        70,
        90,
        lambda r: 100 * r["mf_many"]["share_of_yardstick"],
        _many_peers,
        _mf_quality,
        at_most=False,
    ),
    Budget("import routellm_fast", "ms", 100, None, lambda r: _import(r)["ms"], _numpy_import("ms", "ms"), _loaded),
    Budget(
        "resident after import",
        "MB",
        60,
        None,
        lambda r: _import(r)["resident_mb"],
        _numpy_import("resident_mb", "MB"),
        _loaded,
    ),
)


def _p99(report: Report, name: str) -> str:
    found = report["text"]["contenders"].get(name)
    return f"{name} {number(found['p99_us'])} µs" if found else "no peer installed"


def render(report: Report) -> str:
    """Return the whole report."""
    machine, text, many = report["machine"], report["text"], report["mf_many"]
    parts = [
        "# Benchmarks of routellm-fast",
        f"Measured {machine['date']} by `{report['command']}` on: {machine_line(machine)}.",
    ]
    if report["effort"] != "full":
        parts.append(f"**A {report['effort']} run: it shows that the benchmarks work. Its figures mean nothing.**")
    parts += _warnings(report)
    parts += [
        "## Budgets",
        "One thread. *Peers* is how many times as long the peer takes, measured in the same run, turn by turn.",
        budget_table(report),
        f"The router that ships: {report['router']['kind']}, {report['router']['embedder']}, {report['router']['dim']} "
        f"dimensions. APGR: {_apgr(report)}.",
        "## Text → decision",
        f"{count(text['prompts'])} {text['source']}, one call each, in shuffled order ({number(text['characters']['p50'])} characters "
        f"at the median, {count(text['characters']['p99'])} at p99, {count(text['characters']['p100'])} at most). A prompt's "
        f"figure is its median over {text['rounds']} rounds; p50, p95, p99, max and mean are over prompts. "
        "*Any call* is over all single calls of all rounds, unsmoothed: what else the machine did is in it. "
        f"Every call includes one clock read, {text['clock_ns']:.0f} ns.",
        _text_table(report),
        "*Ratio*: the time of this contender over that of `route` for the same prompt.",
        "### In batches of 256",
        _throughput_table(report),
        "### Cost against length",
        "ASCII text of natural prompts, median µs a call. All read at most the first "
        "512 tokens; `tokenizers` gets its text cut as model2vec cuts it, because by itself it reads to the end.",
        _sweep_table(report["by_length"], "characters", text["contenders"]),
        "### Cost against batch size",
        "Natural prompts, median µs a prompt.",
        _sweep_table(report["by_batch"], "batch", text["contenders"]),
        "## mf on embeddings",
        f"64 models, {count(report['mf_one']['dim'])} dimensions, random weights, RouteLLM's shape; µs a call, median of blocks of "
        f"{report['mf_one']['embeddings']} calls in a plain `for` loop over different embeddings.",
        _one_table(report),
        f"### A batch of {count(many['shape'][0])} × {count(many['shape'][1])} float32",
        f"{many['bytes'] / 1e6:.1f} MB, median of {many['rounds']} turns. The yardstick is the fastest of {len(many['readers'])} bare reads of "
        f"the same bytes in this run: {many['yardstick']}.",
        _many_table(report),
        "### All models at once",
        _all_models_table(report),
        "## Import and loading",
        f"Medians of {report['import']['interpreters']} fresh interpreters each; files in the page cache, bytecode compiled. "
        f"Looked for and must not be loaded: {', '.join(report['import']['heavy_modules_looked_for'])}. "
        f"Loaded: {', '.join(report['import']['heavy_modules_loaded']) or 'none of them'}.",
        _import_table(report),
        "## Suites",
        "pytest-benchmark's own figures, one contender after the other: not interleaved, so compare within a group and "
        "only roughly. The result of each is asserted.",
        _suite_table(report),
        "## Not timed",
        "\n".join(
            [
                "- Loading and first calls, except under *Import and loading*: every contender runs untimed first.",
                "- A remote embedding service, HTTP, the gateway: RouteLLM's service is replaced by a look-up.",
                "- Several threads, and GPUs.",
                "- Surface features for the peers: model2vec's decision is made without them, which spares it work.",
                "- Training, calibration and evaluation. Quality is taken from the router's own provenance.",
                "- Python's garbage collector, which is off while the clock runs.",
            ]
        ),
        _load_table(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline(report: Report) -> str:
    """Return what stands in the project's README."""
    machine = report["machine"]
    rows = [
        [budget.stage, _value(budget, report), budget.peer(report), budget.quality(report)] for budget in BUDGETS
    ]
    return (
        f"{table(['stage, one thread', 'measured', 'peers in the same run', 'quality'], rows)}\n\n"
        f"{machine_line(machine)}. `make benchmark`, {machine['date']}; all of it in "
        "[benchmarks/results/latest.md](benchmarks/results/latest.md)."
    )


def splice(document: Path, report: Report) -> None:
    """Replace what stands between the two markers of a Markdown file. Raises ValueError where they are missing."""
    content = document.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"{document} has no {BEGIN} … {END} to fill"
        raise ValueError(message)
    document.write_text(f"{before}{BEGIN}\n{headline(report)}\n{END}{after}", encoding="utf-8")


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


def budget_table(report: Report) -> str:
    """Return the table of BUDGETS."""
    rows = []
    for budget in BUDGETS:
        value = budget.value(report)
        sign = "≤" if budget.at_most else "≥"
        must, aim = (
            "—" if bound is None else f"{sign} {number(bound)} {budget.unit}" for bound in (budget.must, budget.aim)
        )
        rows.append(
            [
                budget.stage,
                must,
                aim,
                f"**{_value(budget, report)}**",
                budget.holds(budget.must, value),
                budget.holds(budget.aim, value),
                budget.peer(report),
                budget.quality(report),
            ]
        )
    return table(["stage", "must", "aim", "measured", "must met", "aim met", "peers", "quality"], rows)


def number(value: float | None) -> str:
    """Return three significant digits, without an exponent."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "not measured"
    if value and abs(value) < 100:
        digits = 2 if abs(value) < 10 else 1
        return f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return count(value)


def count(value: float) -> str:
    """Return a whole number with commas."""
    return f"{value:,.0f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column to the left, others to the right unless they hold sentences."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] * len(header)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _value(budget: Budget, report: Report) -> str:
    return f"{number(budget.value(report))} {budget.unit}"


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
            _ratio(report["text"]["ratio_to_route"][name]),
        ]
        for name, found in report["text"]["contenders"].items()
    ]
    header = ["µs", "p50", "p95", "p99", "max", "mean", "any call p99", "any call p99.9", "p50 ASCII", "p50 other"]
    return table([*header, "prompts/s, a call each", "ratio (p5 – p95; of totals)"], rows)


def _throughput_table(report: Report) -> str:
    found = report["throughput"]
    rows = [
        [name, count(value), _ratio(found["ratio_to_route"][name])] for name, value in found["prompts_per_s"].items()
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
            _ratio(one["ratio_to_ours"][name]),
        ]
        for name, value in one["us_a_call"].items()
    ]
    header = ["µs a call", "in turn", "the same again", "p50", "p95", "p99", "ratio (p5 – p95; of totals)"]
    note = (
        f"p50 to p99 are of single calls, which include one clock read ({one['clock_ns']:.0f} ns). RouteLLM turns the list of floats that "
        "its service answers into a tensor in every call; *spared the list* hands it a numpy array instead."
    )
    return table(header, rows) + "\n\n" + note


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
    if "RouteLLM" in many["us_a_row_on_sample"]:
        extrapolated = many["us_a_row_on_sample"]["RouteLLM"] * many["shape"][0] / 1e3
        rows.append([f"RouteLLM, from {many['sampled_rows']} rows, one a call", number(extrapolated), "—", "—"])
    return table(["", "ms a batch", "GB/s", "our share of this read's speed"], rows)


def _all_models_table(report: Report) -> str:
    rows = [
        [
            f"{count(row['embeddings'])} × {row['models']} logits",
            *(number(value) for value in row["us"].values()),
            f"{number(row['ratio_to_ours']['numpy']['median'])} ×",
        ]
        for row in report["mf_all_models"]
    ]
    return table(["µs a call", "routellm_fast.model_logits", "numpy matmul", "ratio"], rows)


def _import_table(report: Report) -> str:
    rows = [
        [f"{program}: {stage}" if program != stage else stage, number(found["ms"]), number(found["resident_mb"])]
        + [number(found["peak_mb"])]
        for program, stages in report["import"]["programs"].items()
        for stage, found in stages.items()
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
    note = "Load averages of 1, 5 and 15 minutes. One busy thread of ours makes a load of 1; more is somebody else's noise."
    return "## How quiet the machine was\n\n" + note + "\n\n" + table(["section", "before", "after"], rows)


def _ratio(found: dict[str, float]) -> str:
    return f"{number(found['median'])} ({number(found['p5'])} – {number(found['p95'])}; {number(found['of_totals'])})"
