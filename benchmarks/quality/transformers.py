"""How good the routers that read prompts themselves are, and what an export's precision costs.

`python -m benchmarks quality-transformers --data DIR --routers DIR` fine-tunes a bert router (of
all-MiniLM-L6-v2) and a causal_llm router (the score rows of SmolLM2-135M-Instruct) on part of the training data,
evaluates both beside the routers that ship, exports them in several precisions, and writes transformers_quality.json
with a Markdown table beside it. Routers that lie in --routers already are used as they are. Takes about half an hour on
two cores; needs the extra `transformers`, and the packages of requirements-models.txt.

The recipes are written down below and were chosen by what two cores can train in minutes, not by these results. Both
see far fewer prompts than the routers that ship: what is shown is the way, and what quantization does to it. A language
model takes a good part of a second a prompt here, so that it is evaluated on a sample, drawn by a fixed seed; the
others are shown on that sample too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from routellm_fast.export import bound_of, export_onnx

from benchmarks.harness.progress import say
from benchmarks.quality.command import Result, run
from routellm_fast import load_router
from routellm_fast.data import file_digest, read_prompts
from routellm_fast.decision import ModelPair
from routellm_fast.evaluation import Benchmark, Evaluation, evaluate, read_benchmarks
from routellm_fast.routers import CausalLLMRouter
from routellm_fast.training.bert_command import train_bert
from routellm_fast.training.causal_llm_command import train_causal_llm
from routellm_fast.training.configs import BertConfig, CausalLLMConfig

PAIR: Final = ModelPair("gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1")
GOLDEN: Final = ("golden_routerbench.csv.gz", "golden_mmlu_pro.csv.gz")
BATTLES: Final = ("battles_judge.csv.gz",)
PROMPTS: Final = "prompts.csv.gz"
# MMLU-Pro has no scores of the pair's strong model: its early successor stands in.
ALSO_STRONG: Final = ("gpt4o(early)",)
BERT_PROMPTS: Final = 6000
BERT: Final = BertConfig(max_tokens=128, max_epochs=1, threads=2)
CAUSAL_PROMPTS: Final = 240
CAUSAL: Final = CausalLLMConfig(method="rows", max_tokens=160, threads=2)
# Prompts of each benchmark that a language model reads, and on which exports are compared.
SAMPLE: Final = 100
EXPORT_SAMPLE: Final = 1000
SAMPLE_SEED: Final = 0
PRECISIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "mf": ("float32", "float16", "int8", "int8-static"),
    "sw_ranking": ("float32", "float16", "int8", "int8-static"),
    "bert": ("float32", "float16", "int8", "int8-static"),
    "causal_llm": ("float32", "int8"),
}
# What is kept of an export's report.
REPORTED: Final = (
    "inputs",
    "precision",
    "prompts",
    "max_difference",
    "changed_decisions",
    "apgr",
    "model_bytes",
    "opset",
)
# Prompts by which int8-static chooses its scales and on which graphs are held against routers.
CALIBRATION_PROMPTS: Final = 256
# A language model's graph is held against it on as many as take a minute.
CAUSAL_CALIBRATION_PROMPTS: Final = 32


def train_routers(data: Path, routers: Path, created: str) -> None:
    """Train those that are not there. Raises RouteLLMError."""
    train = data / "train"
    common: dict[str, Any] = {
        "battles": [train / name for name in BATTLES],
        "golden": [train / name for name in GOLDEN],
        "prompts": [train / PROMPTS],
        "evaluation": [data / "routellm_evals"],
        "also_strong": ALSO_STRONG,
        "model_pair": PAIR,
        "created": created,
    }
    if not (routers / "bert").exists():
        say("training bert")
        train_bert(**common, out=routers / "bert", config=BERT, max_prompts=BERT_PROMPTS)
    if not (routers / "causal_llm").exists():
        say("training causal_llm")
        train_causal_llm(**common, out=routers / "causal_llm", config=CAUSAL, max_prompts=CAUSAL_PROMPTS)


def sampled(benchmark: Benchmark, size: int) -> Benchmark:
    """Return at most so many of a benchmark's prompts, by a fixed seed."""
    rows = np.random.default_rng(SAMPLE_SEED).permutation(len(benchmark.prompts))[:size]
    return benchmark.select(np.sort(rows))


def evaluation_rows(found: Evaluation) -> list[dict[str, Any]]:
    """Return one row a router and benchmark."""
    return [
        {
            "benchmark": result.name,
            "prompts": result.prompts,
            "router": router.name,
            "apgr": vars_of(router.metrics.apgr_routellm),
            "cpt50": vars_of(router.metrics.cpt50),
            "cpt80": vars_of(router.metrics.cpt80),
        }
        for result in found.benchmarks
        for router in result.routers
    ]


def vars_of(interval: Any) -> dict[str, float]:
    """Return an interval as JSON."""
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def export_rows(
    routers: Mapping[str, str | Path], benchmarks: Sequence[Benchmark], prompts: Sequence[str]
) -> list[Any]:
    """Export each router in each precision, whatever the difference: the row says what was found."""
    rows = []
    for kind, precisions in PRECISIONS.items():
        is_causal = kind == "causal_llm"
        given = prompts[: CAUSAL_CALIBRATION_PROMPTS if is_causal else CALIBRATION_PROMPTS]
        for precision in precisions:
            say(f"exporting {kind}, {precision}")
            with tempfile.TemporaryDirectory() as folder:
                report = export_onnx(
                    routers[kind],
                    Path(folder) / "out",
                    precision=precision,
                    prompts=given,
                    bound=1.0,
                    benchmarks=() if is_causal else benchmarks,
                ).to_json()
            kept = {key: report[key] for key in REPORTED}
            rows.append({"kind": kind, "bound": bound_of(kind, precision), **kept})
    return rows


def page(record: Mapping[str, Any]) -> str:
    """Return the Markdown of a record."""
    about_exports = (
        f"Each graph beside the router itself: the largest difference of win rates on {record['calibration_prompts']} "
        f"natural prompts ({record['causal_calibration_prompts']} for causal_llm), the bound above which `export` "
        "refuses, how many decisions changed at most at the calibrated thresholds, and by how much APGR changed on at "
        f"most {record['export_sample']:,} prompts of each benchmark.\n"
    )
    sections = (
        "# Routers that read prompts themselves, and exports\n",
        f"APGR by RouteLLM's code, with 95 % intervals; 0.5 is chance. {record['about']}\n",
        "## All prompts\n",
        _evaluation_table(record["evaluation"]),
        f"\n## A sample of at most {record['sample']} prompts each\n",
        _evaluation_table(record["sample_evaluation"]),
        "\n## Exports\n",
        about_exports,
        _export_table(record["exports"]),
    )
    return "\n".join(sections) + "\n"


def _evaluation_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| benchmark | prompts | router | APGR | CPT(50 %) | CPT(80 %) |", "|---|---|---|---|---|---|"]
    for row in rows:
        apgr = "{value:.3f} ({low:.3f} to {high:.3f})".format(**row["apgr"])
        lines.append(
            f"| {row['benchmark']} | {row['prompts']:,} | {row['router']} | {apgr} | {row['cpt50']['value']:.1%} | "
            f"{row['cpt80']['value']:.1%} |"
        )
    return "\n".join(lines)


def _export_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| router | precision | bytes | largest difference | bound | decisions changed | largest change of APGR |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        changes = [abs(entry["difference"]) for entry in row["apgr"].values()]
        changed = max(row["changed_decisions"].values(), default=0)
        apgr = f"{max(changes):.4f}" if changes else "not measured"
        lines.append(
            f"| {row['kind']} | {row['precision']} | {row['model_bytes']:,} | {row['max_difference']:.1e} | "
            f"{row['bound']:g} | {changed} of {row['prompts']} | {apgr} |"
        )
    return "\n".join(lines)


def make(options: argparse.Namespace) -> list[Result]:
    """Train what is not there, evaluate and export. Return the files' contents. Raises RouteLLMError."""
    options.routers.mkdir(parents=True, exist_ok=True)
    train_routers(options.data, options.routers, options.created)
    places = {kind: options.routers / kind for kind in ("bert", "causal_llm")}
    routers = {"bert": load_router(places["bert"])} | {kind: load_router(kind) for kind in ("mf", "sw_ranking")}
    benchmarks = list(read_benchmarks(options.data / "routellm_evals"))
    say("evaluating bert")
    whole = evaluate(routers, benchmarks, created=options.created)
    say("evaluating causal_llm")
    causal = load_router(places["causal_llm"])
    assert isinstance(causal, CausalLLMRouter)
    part = evaluate(
        {"causal_llm": causal, **routers}, [sampled(one, SAMPLE) for one in benchmarks], created=options.created
    )
    texts = [prompt for prompt, _ in read_prompts(options.data / "train" / PROMPTS).values()]
    chosen = [texts[index] for index in np.random.default_rng(SAMPLE_SEED).permutation(len(texts))]
    record = {
        "files": {name: file_digest(options.data / "train" / name) for name in (*GOLDEN, *BATTLES, PROMPTS)},
        "about": (
            f"bert was trained on about {BERT_PROMPTS:,} prompts, causal_llm on about {CAUSAL_PROMPTS:,}: enough "
            "to show the way, and far too few to judge the kind by."
        ),
        "training": {kind: load_router(place).provenance.get("training") for kind, place in places.items()},
        "unscored": {"causal_llm": causal.unscored_count, "of": causal.counts.prompts},
        "evaluation": evaluation_rows(whole),
        "sample": SAMPLE,
        "sample_evaluation": evaluation_rows(part),
        "export_sample": EXPORT_SAMPLE,
        "calibration_prompts": CALIBRATION_PROMPTS,
        "causal_calibration_prompts": CAUSAL_CALIBRATION_PROMPTS,
        "exports": export_rows(
            {"mf": "mf", "sw_ranking": "sw_ranking", **places},
            [sampled(one, EXPORT_SAMPLE) for one in benchmarks],
            chosen,
        ),
    }
    return [Result("transformers_quality", record, page(record))]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--routers", type=Path, required=True, metavar="DIR", help="folder of the trained routers: bert, causal_llm"
    )


def main(arguments: Sequence[str]) -> int:
    """Write transformers_quality.json. Return 2 with one line on bad input."""
    return run("quality-transformers", __doc__ or "", make, arguments, _add_arguments)
