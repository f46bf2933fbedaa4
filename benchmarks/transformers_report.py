"""Time the routers that read prompts themselves and write transformers.json and transformers.md.

`python benchmarks/transformers_report.py --routers DIR` measures a bert classifier beside its peers, a causal_llm
router beside the generation that RouteLLM uses, and cold starts of every kind, one thread each; about eight minutes.
DIR holds `causal_llm`, as quality_transformers.py leaves it; without it only what does not need it is measured. The
quality that stands beside the speeds is that of transformers_quality.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import environment

HERE: Final = Path(__file__).resolve().parent
TOKENS: Final = (16, 64, 256)
BATCHES: Final = (1, 8, 64)
# Tokens of a batch beyond which a turn of all contenders takes the better part of a minute.
_SMALL: Final = 2048
QUALITY_FILE: Final = "transformers_quality.json"
BEGIN, END = "<!-- transformers:begin -->", "<!-- transformers:end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routers", type=Path, metavar="DIR", help="trained routers: causal_llm")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="sizes of bert's batches")
    parser.add_argument("--quick", action="store_true", help="tiny rounds: shows that everything runs")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing, render this JSON")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write, instead of benchmarks/results")
    parser.add_argument("--document", type=Path, metavar="FILE", help="splice the tables into this file too")
    options = parser.parse_args()
    if options.render is None:
        environment.enter()
    import render
    from render_transformers import page, tables
    from report import dump

    out = options.out or (Path(tempfile.mkdtemp(prefix="benchmark-")) if options.quick else HERE / "results")
    out.mkdir(parents=True, exist_ok=True)
    if options.render is not None:
        report = json.loads(options.render.read_text(encoding="utf-8"))
    else:
        content = dump(run(options.routers, tuple(options.batches), is_quick=options.quick))
        (out / "transformers.json").write_text(content, encoding="utf-8")
        report = json.loads(content)
    quality = _quality()
    (out / "transformers.md").write_text(page(report, quality), encoding="utf-8")
    print(out / "transformers.md")
    if options.document is not None:
        render.splice_between(options.document, (BEGIN, END), tables(report, quality))
        print(options.document)


def run(routers: Path | None, sizes: tuple[int, ...], *, is_quick: bool) -> dict[str, Any]:
    """Measure everything; progress goes to standard error."""
    import machine
    import measure_causal
    import measure_cold_start
    from measure_bert import BertBench
    from peers import PeerMissingError
    from workloads import DataMissingError, example_prompts, natural_prompts

    import routellm_fast as rf

    try:
        prompts, source = natural_prompts(), "natural prompts"
    except DataMissingError:
        prompts, source = example_prompts(), "examples/prompts.txt"
    rounds, tokens, batches = (2, (16,), (1, 8)) if is_quick else (7, TOKENS, sizes)
    before = machine.loads()
    report: dict[str, Any] = {
        "format_version": 1,
        "command": "python benchmarks/transformers_report.py"
        + (" --quick" if is_quick else "")
        + ("" if sizes == BATCHES else f" --batches {' '.join(map(str, sizes))}"),
        "effort": "quick" if is_quick else "full",
        "prompts": source,
        "missing": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _say("bert")
        try:
            bench = BertBench(folder, prompts)
        except PeerMissingError as error:
            report["missing"]["bert"] = str(error)
        else:
            report["bert_quality"] = bench.quality(8 if is_quick else 64)
            report["bert_bytes"], report["missing"] = bench.bytes, bench.missing
            report["bert"] = []
            for length in tokens:
                for batch in batches:
                    _say(f"bert, {length} tokens, batches of {batch}")
                    report["bert"].append(
                        bench.cell(length, batch, rounds if length * batch <= _SMALL else min(rounds, 2))
                    )
            del bench
        places = {"mf": "mf", "sw_ranking": "sw_ranking"}
        caches: dict[str, Path] = {}
        if (folder / "router").is_dir():
            places["bert"], caches["bert"] = str(folder / "router"), folder / "cache"
        if routers is not None and (routers / "causal_llm").is_dir():
            place = str((routers / "causal_llm").resolve())
            places["causal_llm"] = place
            _say("causal_llm")
            causal = rf.load_router(place, device="cpu")
            chosen = [prompt for prompt in prompts[:: len(prompts) // 24] if len(prompt) < 600][: 2 if is_quick else 4]
            report["causal_llm"] = measure_causal.measure(causal, chosen, 1 if is_quick else 2)
            del causal
        else:
            report["missing"]["causal_llm"] = "no trained router was given (--routers)"
        _say("cold starts")
        report["cold_start"] = measure_cold_start.measure(places, caches, 2 if is_quick else 3)
        report["machine"] = machine.describe()
        report["loads"] = {"before": before, "after": machine.loads()}
    return report


def _quality() -> dict[str, Any] | None:
    path = HERE / "results" / QUALITY_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _say(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
