"""What preference data alone give, and what each augmentation and each part of the recipe adds.

`python benchmarks/quality_ablation.py --data DIR --out DIR` trains routers on votes of people, on these and a judge's
battles, and on all of it with golden labels, once by RouteLLM's recipe (mf by gradient descent on battles) and once by
the recipe of the router that ships (a regression of gaps); evaluates them beside the shipped routers on RouteLLM's
benchmarks and writes ablation.json and ablation.md. Takes some minutes; needs the extra `train`.

Nothing is chosen by these results: both recipes stand in the package.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.quality_selection import MIN_RATING_GAP
from recipes.benchmark_table import results_table
from recipes.shipped import (
    BATTLES,
    CONFIG,
    GOLDEN,
    LICENSES,
    PROMPTS,
    SCORE_RANGE,
    SEED,
    read_rows,
    weigh,
)
from routellm_fast import ModelPair, RouteLLMError, load_router
from routellm_fast.data import Battle, balanced, capped, pairs, read_battles, read_golden, read_prompts, to_arrays
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.evaluation import read_benchmarks
from routellm_fast.evaluation.comparison import evaluate
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.evaluation.results import Evaluation
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training import gap_regression, matrix_factorization
from routellm_fast.training.item_response import fit_item_response
from routellm_fast.training.matrix_factorization import MatrixFactorizationConfig

# RouteLLM's settings, with fewer epochs: the held-out loss stops them.
SGD: Final = MatrixFactorizationConfig(max_epochs=10, seed=SEED)
CAP_PER_PROMPT: Final = 4
# The votes know neither model of the pair well enough: the strong and the weak one with the most votes play for it.
VOTES_PAIR: Final = ModelPair("gpt-4", "gpt-3.5-turbo")


def stages(folder: Path) -> dict[str, list[Battle]]:
    """Battles by what they come from, each file's capped a prompt, ties included."""
    prompts = read_prompts(folder / PROMPTS)
    human, judge = (
        capped(
            read_battles(folder / name, prompts=prompts, licenses=LICENSES, drop_ties=False), CAP_PER_PROMPT, seed=SEED
        )
        for name in BATTLES
    )
    golden = [
        battle
        for name in GOLDEN
        if name not in SCORE_RANGE
        for battle in pairs(
            read_golden(folder / name, prompts=prompts), cap_per_prompt=CAP_PER_PROMPT, seed=SEED, always=PAPER_PAIR
        )
    ]
    return {"votes": human, "votes + judge": [*human, *judge], "votes + judge + golden": [*human, *judge, *golden]}


def by_descent(battles: Sequence[Battle], embedder: StaticEmbedder, pair: ModelPair, *, keep_ties: bool) -> Router:
    """RouteLLM's recipe, sources weighing the same; it drops ties of votes, which golden labels cannot do without."""
    kept = [battle for battle in battles if keep_ties or battle.target != 0.5]
    trained = matrix_factorization.train(to_arrays(balanced(kept, 1.0)), embedder, SGD)
    return trained.router(model_pair=PAPER_PAIR, scoring_pair=pair, embedder=embedder)


def by_regression(battles: Sequence[Battle], embedder: StaticEmbedder) -> Router:
    """The shipped recipe where there are battles only: the model that all of them rate higher is the strong one."""
    arrays = to_arrays(battles)
    every = np.ones(len(arrays), dtype=bool)
    flat = np.zeros(len(arrays.prompts))
    rating = fit_item_response(arrays, flat, every, ridge=CONFIG.item_ridge).strength
    rated = dict(zip(arrays.models, rating.tolist(), strict=True))
    gaps = []
    for battle in battles:
        lead = rated[battle.model_a] - rated[battle.model_b]
        if abs(lead) > MIN_RATING_GAP:
            target = battle.target if lead > 0 else 1.0 - battle.target
            gaps.append(Battle(battle.prompt, battle.group, *PAPER_PAIR, target, battle.source))
    trained = gap_regression.train(to_arrays(gaps), to_arrays(balanced([*gaps, *battles], 1.0)), embedder, CONFIG)
    return trained.router(model_pair=PAPER_PAIR, embedder=embedder)


def routers(folder: Path) -> dict[str, Router]:
    embedder = StaticEmbedder.load(SHIPPED_ROUTER)
    data = stages(folder)
    found: dict[str, Router] = {}
    for name, battles in data.items():
        found[f"RouteLLM's recipe, {name}"] = by_descent(
            battles, embedder, VOTES_PAIR if name == "votes" else PAPER_PAIR, keep_ties="golden" in name
        )
        sys.stderr.write(f"RouteLLM's recipe, {name}: {len(battles):,} battles\n")
    for name in ("votes", "votes + judge"):
        found[f"regression, {name}"] = by_regression(data[name], embedder)
    pair_rows, other_rows = read_rows(folder)
    points = [(file, row) for file, row in pair_rows if file in SCORE_RANGE]
    exams = [(file, row) for file, row in pair_rows if file not in SCORE_RANGE]
    for name, rows in (("a judge's points of the pair", points), ("golden labels", exams)):
        trained = gap_regression.train(to_arrays(row for _, row in rows), weigh(rows, other_rows), embedder, CONFIG)
        found[f"regression, {name}"] = trained.router(model_pair=PAPER_PAIR, embedder=embedder)
    return {**found, "shipped mf (regression, all)": load_router(), "shipped sw_ranking": load_router("sw_ranking")}


def record(evaluation: Evaluation) -> dict[str, Any]:
    return {
        benchmark.name: {
            row.name: {
                "apgr": [round(x, 4) for x in (apgr.value, apgr.low, apgr.high)],
                "apgr_paper": round(row.metrics.apgr_paper.value, 4),
                "cpt50": round(row.metrics.cpt50.value, 4),
                "cpt80": round(row.metrics.cpt80.value, 4),
                "saving_cpt50": round(row.metrics.saving_cpt50.value, 3),
            }
            for row in benchmark.routers
            for apgr in (row.metrics.apgr_routellm,)
        }
        for benchmark in evaluation.benchmarks
    }


def markdown(evaluation: Evaluation) -> str:
    return (
        "# What preference data and each augmentation give\n\n"
        f"Made on {evaluation.created} by `python benchmarks/quality_ablation.py`, whose text explains the rows. "
        "APGR: 0.5 is chance.\n\n"
        f"{results_table(evaluation)}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data folder with train/ and routellm_evals/")
    parser.add_argument("--out", type=Path, required=True, help="folder for ablation.json and ablation.md")
    parser.add_argument("--created", default=datetime.datetime.now(datetime.timezone.utc).date().isoformat())
    options = parser.parse_args(arguments)
    try:
        trained: Mapping[str, Router] = routers(options.data / "train")
        found = evaluate(trained, read_benchmarks(options.data / "routellm_evals"), created=options.created)
    except RouteLLMError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ablation.json").write_text(json.dumps(record(found), indent=1) + "\n", encoding="utf-8")
    (options.out / "ablation.md").write_text(markdown(found), encoding="utf-8")
    sys.stdout.write(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
