"""Which method `routellm-fast train mf` should use: gap regression, or RouteLLM's gradient descent.

`python -m recipes.mf_methods --data DIR --out DIR` trains routers by both on what a user may have, and measures them on
prompt groups that neither has seen. Writes mf_methods.json and mf_methods.md; takes some minutes and needs the extra
`train`. RouteLLM's benchmarks are not read.

Each data set is cut into five parts by prompt group. For each part, each method learns from the other four as the
command does with its default settings, and sets a further tenth of those groups apart for itself. A method is measured
on all five parts by the gain of `routellm_fast.training.verdict`: how many more battles in 100 of the pair the chosen
model wins than with random routing, at the same strong share, averaged over all strong shares. Log losses are beside
it. Gap regression chooses how much it is damped and how much length counts on what it is trained on; beside it stands
what the settings of the router that ships would give. Intervals are 95 %, over prompt groups, and differences are taken
on the same resamples.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from recipes.command_line import parser_of, run, write_results
from recipes.shipped import CONFIG
from recipes.training_data import PROMPTS, stand_in_of
from routellm_fast.data import held_out, known_aliases, to_arrays
from routellm_fast.data.battles import Battle, Battles
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training import gap_regression, matrix_factorization
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.loading import Sources, load
from routellm_fast.training.matrix_factorization import TrainedMatrixFactorization
from routellm_fast.training.mf_command import weighed
from routellm_fast.training.verdict import compared, judged, outcome

PARTS: Final = 5
SEED: Final = 1
GAP: Final = "gap regression"
SHIPPED: Final = "gap regression, settings of the router that ships"
DESCENT: Final = "gradient descent"


class Case(NamedTuple):
    """What a user may have: files below the data folder, and the pair."""

    pair: ModelPair
    battles: Sequence[str] = ()
    golden: Sequence[str] = ()


_HUMAN, _JUDGE = "train/battles_human.csv.gz", "train/battles_judge.csv.gz"
_MMLU_PRO, _LLMROUTER = "golden_mmlu_pro.csv.gz", "golden_llmrouter.csv.gz"
CASES: Final[Mapping[str, Case]] = {
    "a judge's battles": Case(PAPER_PAIR, battles=[_JUDGE]),
    "votes, judge and RouterBench": Case(
        PAPER_PAIR, battles=[_HUMAN, _JUDGE], golden=["train/golden_routerbench.csv.gz"]
    ),
    "RouterBench": Case(PAPER_PAIR, golden=["train/golden_routerbench.csv.gz"]),
    "MMLU-Pro": Case(stand_in_of(_MMLU_PRO), golden=[f"train/{_MMLU_PRO}"]),
    "LLMRouter": Case(stand_in_of(_LLMROUTER), golden=[f"train/{_LLMROUTER}"]),
    "medical exams": Case(ModelPair("gpt-4-32k", "gpt-3.5-turbo-16k"), golden=["traffic/mirage_medical.csv.gz"]),
    "short factual questions": Case(
        ModelPair("gpt-4 (chat, 2023)", "text-davinci-003"), golden=["traffic/evouna_openqa.csv.gz"]
    ),
    "rule puzzles": Case(ModelPair("gpt-4o", "Mistral-7B-Instruct-v0.3"), golden=["traffic/kor_bench.csv.gz"]),
    "hard mathematics": Case(
        ModelPair("gpt-4-turbo-2024-04-09", "gpt-3.5-turbo-0125"), golden=["traffic/zeroeval_math_l5.csv.gz"]
    ),
    "output of code": Case(
        ModelPair("gpt-4-turbo-2024-04-09", "Mixtral-8x7B-Instruct-v0.1"), golden=["traffic/zeroeval_crux.csv.gz"]
    ),
}


def read_rows(folder: Path, case: Case, *, with_ties: bool) -> list[Battle]:
    """Return the battles as the command reads them. With ties, scores also say by how much. Raises DataError.

    Battles of the pair are not capped.
    """
    sources = Sources(
        battles=[folder / name for name in case.battles],
        golden=[folder / name for name in case.golden],
        prompts=[folder / "train" / PROMPTS] if case.battles else [],
    )
    settings: dict[str, Any] = {"scoring_pair": case.pair, "seed": 0, "keep_ties": with_ties, "soft_labels": with_ties}
    own = load(sources, cap_per_prompt=None, models=case.pair, **settings).battles
    rows = load(sources, cap_per_prompt=8, **settings).battles
    return weighed([*own, *(row for row in rows if {row.model_a, row.model_b} != set(case.pair))], case.pair)


def by_gaps(battles: Battles, pair: ModelPair, embedder: StaticEmbedder) -> TrainedMatrixFactorization:
    """Train as `train mf` does."""
    return gap_regression.train_on_battles(battles, pair, embedder)


def by_shipped_settings(battles: Battles, pair: ModelPair, embedder: StaticEmbedder) -> TrainedMatrixFactorization:
    """Train with the damping and the weight of length that were chosen for all traffic."""
    return gap_regression.train_on_battles(battles, pair, embedder, CONFIG)


def by_descent(battles: Battles, pair: ModelPair, embedder: StaticEmbedder) -> TrainedMatrixFactorization:  # noqa: ARG001
    """Train as `train mf --method gradient_descent` does."""
    return matrix_factorization.train(battles, embedder, MatrixFactorizationConfig())


METHODS: Final[Mapping[str, tuple[Callable[..., TrainedMatrixFactorization], bool]]] = {
    GAP: (by_gaps, True),
    SHIPPED: (by_shipped_settings, True),
    DESCENT: (by_descent, False),
}


def left_out_scores(
    rows: Sequence[Battle], tested: Battles, pair: ModelPair, embedder: StaticEmbedder, train: Callable[..., Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return rank and win rate, (u,) each, of each tested prompt by a router that has not seen its part.

    Ranks are within a part: routers of different parts need not agree on a level.
    """
    parts = part_of(tested.groups)
    number = dict(zip(tested.prompts, parts.tolist(), strict=True))
    rank, win_rate = np.zeros(len(parts)), np.zeros(len(parts))
    for part in range(PARTS):
        members = np.flatnonzero(parts == part)
        trained = train(to_arrays(row for row in rows if number[row.prompt] != part), pair, embedder)
        router = trained.router(model_pair=pair, embedder=embedder)
        found = router.win_rates([tested.prompts[index] for index in members.tolist()])
        win_rate[members] = found
        rank[members] = np.argsort(np.argsort(found, kind="stable"), kind="stable") / len(members)
    return rank, win_rate


def part_of(groups: Sequence[str]) -> np.ndarray:
    """Return (u,) the number of the part that each prompt belongs to, by its group."""
    parts = np.zeros(len(groups), dtype=np.int64)
    for part in range(1, PARTS):
        parts += ~held_out(groups, part / PARTS, seed=SEED)  # each holds out what the one before did, and more
    return parts


def measure(folder: Path) -> dict[str, Any]:
    """Return the record: by data set and method, gains and losses, and the methods' differences. Raises DataError."""
    embedder, aliases = StaticEmbedder.load(SHIPPED_ROUTER), known_aliases()
    found: dict[str, Any] = {}
    for name, given in CASES.items():
        case = given._replace(pair=ModelPair(*(aliases.get(model, model) for model in given.pair)))
        # All are measured on the same battles, ties and differences of scores included.
        rows = {with_ties: read_rows(folder, case, with_ties=with_ties) for with_ties in (True, False)}
        tested = to_arrays(rows[True])
        of_pair, strong_share = tested.of_pair(case.pair)
        ranks: dict[str, np.ndarray] = {}
        record: dict[str, Any] = {"pair": list(case.pair), "battles": int(of_pair.sum()), "methods": {}}
        for method, (train, with_ties) in METHODS.items():
            ranks[method], rates = left_out_scores(rows[with_ties], tested, case.pair, embedder, train)
            verdict = judged(tested, strong_share, of_pair, ranks[method], shares=rates)
            record["methods"][method] = {
                key: value for key, value in verdict.to_json().items() if key not in ("line", "battles")
            }
            sys.stderr.write(f"{name}, {method}: {verdict.line}\n")
        for other in (SHIPPED, DESCENT):
            *_, difference = compared(tested, strong_share, of_pair, ranks[GAP], ranks[other])
            record[f"{GAP} less {other}"] = [*difference.to_list(), outcome(difference)]
        found[name] = record
    return found


def markdown(found: Mapping[str, Any]) -> str:
    """Return the page with the results."""

    def points(values: Sequence[float]) -> str:
        return f"{100 * values[0]:.1f} ({100 * values[1]:.1f} to {100 * values[2]:.1f})"

    columns = ["data", "battles of the pair", *METHODS, "prompt length", f"{GAP} less {DESCENT}"]
    lines = [
        "# Which method trains mf",
        "",
        "Battles in 100 that the chosen model wins beyond random routing, on prompt groups that were not trained on,",
        "by `python -m recipes.mf_methods`, whose text explains the columns. A constant has 0.0.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
    ]
    for name, of in found.items():
        methods = of["methods"]
        cells = [
            name,
            f"{of['battles']:,}",
            *(points(methods[method]["gain"]) for method in METHODS),
            f"{100 * methods[GAP]['length_gain'][0]:.1f}",
            f"{points(of[f'{GAP} less {DESCENT}'])} {of[f'{GAP} less {DESCENT}'][3]}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    columns = ["data", "constant", *METHODS]
    lines += ["", "Log losses in nats:", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for name, of in found.items():
        methods = of["methods"]
        losses = [methods[GAP]["constant_loss"], *(methods[method]["loss"] for method in METHODS)]
        lines.append(f"| {name} | {' | '.join(f'{loss:.4f}' for loss in losses)} |")
    gains = {method: np.mean([of["methods"][method]["gain"][0] for of in found.values()]) for method in METHODS}
    means = ", ".join(f"{method} {100 * gain:.2f}" for method, gain in gains.items())
    lines += ["", f"Mean gain: {means}."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results. Return 2 with one line on bad input."""
    out = "folder for mf_methods.json and mf_methods.md"
    parser = parser_of("mf_methods", __doc__, data="train/, traffic/", out=out, is_dated=False)

    def work(options: argparse.Namespace) -> str:
        found = measure(options.data)
        page = markdown(found)
        write_results(options.out, "mf_methods", json.dumps(found, indent=1), page)
        return page

    return run(parser, arguments, work)


if __name__ == "__main__":
    sys.exit(main())
