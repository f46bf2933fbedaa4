"""What preference data alone give, and what each augmentation and each part of the recipe adds.

`python -m recipes.ablation --data DIR --out DIR` trains routers on votes of people, on these and a judge's
battles, and on all of it with golden labels, once by RouteLLM's recipe (mf by gradient descent on battles) and once by
the recipe of the router that ships (a regression of gaps); evaluates them beside the shipped routers on RouteLLM's
benchmarks and writes ablation.json and ablation.md. Takes some minutes; needs the extra `train`.

Nothing is chosen by these results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from recipes.benchmark_table import evaluated, record, results_table
from recipes.command_line import parser_of, run, write_results
from recipes.shipped import CONFIG, SEED, read_rows, weigh
from recipes.training_data import BATTLES, GOLDEN, LICENSES, PROMPTS, SCORE_RANGE
from routellm_fast import ModelPair, load_router
from routellm_fast.data import Battle, balanced, capped, pairs, read_battles, read_golden, read_prompts, to_arrays
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.evaluation.results import Evaluation
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training import gap_regression, matrix_factorization
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.gap_regression import MIN_RATING_GAP
from routellm_fast.training.item_response import fit_item_response

# RouteLLM's settings, with fewer epochs: the held-out loss stops them.
SGD: Final = MatrixFactorizationConfig(max_epochs=10, seed=SEED)
CAP_PER_PROMPT: Final = 4
# The votes know neither model of the pair well enough: the strong and the weak one with the most votes play for it.
VOTES_PAIR: Final = ModelPair("gpt-4", "gpt-3.5-turbo")


def stages(folder: Path) -> dict[str, list[Battle]]:
    """Return battles by what they come from, each file's capped a prompt, ties included."""
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
    """Train by RouteLLM's recipe, which drops ties of votes; golden labels need theirs. Sources weigh the same."""
    kept = [battle for battle in battles if keep_ties or battle.target != 0.5]
    trained = matrix_factorization.train(to_arrays(balanced(kept, 1.0)), embedder, SGD)
    return trained.router(model_pair=PAPER_PAIR, scoring_pair=pair, embedder=embedder)


def by_regression(battles: Sequence[Battle], embedder: StaticEmbedder) -> Router:
    """Train by the shipped recipe on battles alone: the model that all of them rate higher is the strong one."""
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
    """Return what is compared, by the names of the table's rows."""
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


def markdown(evaluation: Evaluation) -> str:
    """Return the page with the results."""
    return (
        "# What preference data and each augmentation give\n\n"
        f"Made on {evaluation.created} by `python -m recipes.ablation`, whose text explains the rows. "
        "APGR: 0.5 is chance.\n\n"
        f"{results_table(evaluation)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate and write the results. Return 2 with one line on bad input."""
    parser = parser_of(
        "ablation", __doc__, data="train/, routellm_evals/", out="folder for ablation.json and ablation.md"
    )

    def work(options: argparse.Namespace) -> str:
        trained = routers(options.data / "train")
        found = evaluated(trained, options.data / "routellm_evals", created=options.created)
        page = markdown(found)
        write_results(options.out, "ablation", json.dumps(record(found), indent=1), page)
        return page

    return run(parser, arguments, work)


if __name__ == "__main__":
    sys.exit(main())
