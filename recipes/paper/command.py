"""Train RouteLLM's routers on its own public data, and hold them and its checkpoints against the paper's tables.

`python -m recipes.paper --data DIR --benchmarks DIR --out DIR` downloads what is missing, trains mf and sw_ranking by
RouteLLM's recipes on battles of the Arena, with GPT-4's judgements and with MMLU's golden labels, each with the static
embedder that ships and with text-embedding-3-small; reads RouteLLM's own checkpoints; evaluates all of them on MMLU,
GSM8K and MT-Bench; and writes paper.json and the page. What is there is not made again: after an error or ^C give the
same command again. Needs the extras hf, openai and train; vectors by text-embedding-3-small need OPENAI_API_KEY, and
what they cost is said before anything is sent. docs/paper.md says more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.command_line import parser_of, run
from recipes.paper import page
from recipes.paper.hub import ARENA, CHECKPOINTS, GOLD, JUDGE, fetched
from recipes.paper.routers import STATIC, Row, Stored, made, rows
from recipes.paper.vectors import MODEL, Cost, buy, keep_published, prompts_of
from routellm_fast.embedders import CachedEmbedder, OpenAIEmbedder
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.comparison import evaluate
from routellm_fast.evaluation.datasets import evals_folder, read_benchmarks
from routellm_fast.evaluation.results import Evaluation, RouterResult
from routellm_fast.evaluation.win_rates import directory_identity
from routellm_fast.routers.loading import SHIPPED_ROUTER

# Within RouteLLM's evals: what is evaluated on, and so not trained on.
_EVALUATED = ("mmlu/responses", "gsm8k/gsm8k_responses.csv", "mt_bench/question.jsonl")


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Do all steps, and return what paper.json holds. Raises RouteLLMError."""
    if not 0.0 <= options.max_cost_usd < math.inf:
        raise InvalidArgumentError(
            f"--max-cost-usd is a number of US dollars, 0 or more, found {options.max_cost_usd:g}"
        )
    benchmarks = read_benchmarks(options.benchmarks)
    evaluation = [evals_folder(options.benchmarks) / name for name in _EVALUATED]
    wanted = rows(options.embedder or (STATIC, MODEL), options.checkpoints or ("mf",))
    for source in (ARENA, JUDGE, GOLD):
        _say(f"{source.battles.name}: {fetched(source.battles, options.data)}")
    embedders: dict[str, Embedder | None] = {"": None, STATIC: StaticEmbedder.load(SHIPPED_ROUTER)}
    cache, cost = None, Cost(0, 0)
    if MODEL in {row.embedder for row in wanted}:
        cache = CachedEmbedder(OpenAIEmbedder(MODEL), path=options.work / "vectors")
        for source in (ARENA, JUDGE, GOLD):
            keep_published(cache, source, options.data)
        trained_on = prompts_of(fetched(source.battles, options.data) for source in (ARENA, JUDGE, GOLD))
        evaluated_on = (prompt for benchmark in benchmarks for prompt in benchmark.prompts)
        cost = buy(cache, itertools.chain(evaluated_on, trained_on), max_cost_usd=options.max_cost_usd, say=_say)
        embedders[MODEL] = cache
    directories: dict[Row, Path] = {}
    for row in wanted:
        directories[row] = made(
            row,
            options.data,
            options.work,
            embedder=embedders[row.embedder],
            evaluation=evaluation,
            created=options.created,
        )
        _say(f"{row.name}: {directories[row]}")
    found = evaluate(
        # What a directory of a static embedder holds is read from there.
        {
            row.name: Stored(place, cache if row.embedder == MODEL else None, row.kind)
            for row, place in directories.items()
        },
        benchmarks,
        identities={row.name: directory_identity(place, shown=row.name) for row, place in directories.items()},
        cache=options.work / "win-rates",
        created=options.created,
        on_progress=lambda what, done, _: None if done else _say(what),
    )
    return record(found, wanted, cost)


def record(found: Evaluation, wanted: Sequence[Row], cost: Cost) -> dict[str, Any]:
    """Return results as JSON: of each benchmark and router, each metric with both ends of its interval."""

    def numbers(row: RouterResult) -> dict[str, list[float]]:
        return {name: getattr(row.metrics, name).to_list() for name in page.METRICS}

    return {
        "created": found.created,
        "routers": {row.name: {**row._asdict(), **found.routers[row.name]} for row in wanted},
        "bought": {**cost._asdict(), "at_most_usd": cost.at_most_usd},
        "settings": {name: found.settings[name] for name in ("seed", "resamples", "random_runs", "version")},
        "benchmarks": {
            benchmark.name: {
                "prompts": benchmark.prompts,
                "strong_quality": benchmark.strong_quality,
                "weak_quality": benchmark.weak_quality,
                "results": {row.name: numbers(row) for row in benchmark.routers},
            }
            for benchmark in found.benchmarks
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all steps and write the results. Return 2 with one line on bad input."""
    parser = parser_of(
        "paper",
        __doc__,
        data="OWNER/NAME for each repository of the Hugging Face hub; what is missing is downloaded into it",
        out="folder for paper.json",
    )
    parser.add_argument(
        "--benchmarks",
        type=Path,
        required=True,
        help="a checkout of RouteLLM (git clone https://github.com/lm-sys/RouteLLM)",
    )
    parser.add_argument("--page", type=Path, help="the page to write, docs/paper.md")
    parser.add_argument(
        "--work", type=Path, default=Path("build/paper"), help="routers, vectors and win rates; default: build/paper"
    )
    parser.add_argument(
        "--embedder",
        action="append",
        choices=(STATIC, MODEL),
        help="train with this one; may be repeated; default: both",
    )
    parser.add_argument(
        "--checkpoints",
        action="append",
        choices=tuple(CHECKPOINTS),
        help="RouteLLM's own routers of this kind; may be repeated; default: mf. bert and causal_llm take the extra "
        "transformers, causal_llm also a GPU",
    )
    parser.add_argument(
        "--max-cost-usd", type=float, default=1.0, help="send nothing if it may cost more US dollars; default: 1"
    )

    def work(options: argparse.Namespace) -> str:
        for place in filter(None, (options.out, options.page and options.page.parent)):
            if place.exists() and not place.is_dir():
                raise DataError(f"{place}, where results should go, is no directory")
            place.mkdir(parents=True, exist_ok=True)
        found = make(options)
        (options.out / "paper.json").write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
        text = page.markdown(found)
        if options.page:
            options.page.write_text(text, encoding="utf-8")
        return page.tables(found)

    return run(parser, arguments, work)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
