"""Make the sw_ranking router that ships: `python -m recipes.shipped_similarity --data DIR --out DIR`.

Takes the battles that may ship (see `recipes.shipped`), embeds their prompts by the token table of the mf router that
ships, to which the new router refers, calibrates, evaluates and writes the router directory with its model card. Needs
neither extras nor network. Two runs on one machine give the same bytes.

The recipe is RouteLLM's settings on all data with a stated licence. The one choice in it, how many battles a model
needs, was made on the training data.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recipes import training_data
from recipes.benchmark_table import OWN, READING_GUIDE, evaluated, held_against, record, results_table
from recipes.command_line import parser_of, run
from recipes.training_data import BATTLES, GOLDEN, LICENSES, PROMPTS, natural_win_rates, sources_table
from routellm_fast import data
from routellm_fast.data.routellm_datasets import MIN_PROMPT_CHARS
from routellm_fast.embedders.stored import ShippedEmbedder
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.evaluation.results import LENGTH, Evaluation
from routellm_fast.routers.loading import load_router
from routellm_fast.routers.similarity.router import SimilarityWeightedRouter
from routellm_fast.training.progress import OnProgress, Progress
from routellm_fast.training.similarity_weighted import train

# Golden labels become battles of the scoring pair only. All pairs of these tables' dozens of models would be twenty
# times as many, nearly all on exam questions, and the bank no longer small. These two have scores of both models.
_GOLDEN: Final = ("golden_routerbench.csv.gz", "judge_scores_arena_bench.csv.gz")
_ORIGINS: Final = {**BATTLES, **{name: GOLDEN[name] for name in _GOLDEN}}
# As `train_sw_ranking` has it: a dozen prompts have thousands of votes.
_CAP_PER_PROMPT: Final = 8
# Two models in three have ten battles or fewer. Their ratings are noise, as far apart as chance will have it, so that
# they take up the tiers and leave the pair in one, where every win rate is a half. From 20 to 100 the tiers of the pair
# and the loss on held-out battles are the same.
_MIN_BATTLES_PER_MODEL: Final = 20


def read_rows(folder: Path) -> list[data.Battle]:
    """Return the battles of the recipe, ties included. Raises DataError."""
    rows = [row for row in _all_rows(folder) if len(row.prompt.strip()) >= MIN_PROMPT_CHARS]
    while True:
        counts = Counter(name for row in rows for name in (row.model_a, row.model_b))
        kept = [row for row in rows if min(counts[row.model_a], counts[row.model_b]) >= _MIN_BATTLES_PER_MODEL]
        if len(kept) == len(rows):
            return kept
        rows = kept  # their opponents have fewer battles now


def _all_rows(folder: Path) -> list[data.Battle]:
    prompts = data.read_prompts(folder / PROMPTS)
    own = [
        battle
        for name in _GOLDEN
        for battle in data.pairs(_of_pair(data.read_golden(folder / name, prompts=prompts)), cap_per_prompt=None)
    ]
    labelled = {battle.prompt for battle in own}
    return own + [
        battle
        for name in BATTLES
        for battle in data.read_battles(
            folder / name, prompts=prompts, licenses=LICENSES, drop_ties=False, cap_per_prompt=_CAP_PER_PROMPT
        )
        # Battles made of a judge's points are golden labels already.
        if battle.prompt not in labelled or {battle.model_a, battle.model_b} != set(PAPER_PAIR)
    ]


def make(
    folder: Path, *, created: str, on_progress: OnProgress | None = None
) -> tuple[SimilarityWeightedRouter, Evaluation]:
    """Return the router with its model card, and the results behind it.

    Args:
        folder: The data folder: train/, prompts/ and routellm_evals/.
        created: Date, for the record.
        on_progress: Called as the work goes on.

    Raises:
        DataError: A file is missing or damaged, or the battles leave both models of the pair in one tier.
    """
    embedder = ShippedEmbedder()
    battles = data.to_arrays(read_rows(folder / "train"), keep_order=True)
    trained = train(battles, embedder, PAPER_PAIR, on_progress=on_progress)
    plain = trained.router(embedder=embedder)
    win_rates, calibration = natural_win_rates(plain, folder)
    results = evaluated({OWN: plain, "mf": load_router()}, folder / "routellm_evals", created=created)
    provenance = {
        "created": created,
        "command": "python -m recipes.shipped_similarity",
        **training_data.record(_ORIGINS, folder),
        "training": trained.metrics,
        "evaluation": record(results),
    }
    card = model_card(results, win_rates, trained.metrics, plain.tiers, created=created)
    router = trained.router(embedder=embedder, calibration=calibration, provenance=provenance, model_card=card)
    return router, results


def model_card(
    results: Evaluation,
    win_rates: NDArray[np.float32],
    metrics: Mapping[str, Any],
    tiers: Mapping[str, int],
    *,
    created: str,
) -> str:
    """Return the model card, Markdown."""
    low, middle, high = np.quantile(win_rates.astype(np.float64), (0.05, 0.5, 0.95))
    strong_tier, weak_tier = (tiers[name] for name in PAPER_PAIR)
    return f"""# The sw_ranking router that ships with routellm-fast

Says how likely `{PAPER_PAIR.strong}` (strong) is to answer a prompt better than
`{PAPER_PAIR.weak}` (weak), from battles on similar prompts: offline, from the text alone.
Kind `sw_ranking`, format 1, made on {created}. It is small, and meant to try the method, to compare it and to add
battles of your own to (`add_battles`); the router that the package loads by default is the mf router beside it.

## Results

{results_table(results)}

{READING_GUIDE}

"mf" is the mf router that ships. {held_against(results, LENGTH)}
{held_against(results, "mf")}
MT-Bench has 72 questions: read its interval, not its number.
{_held_out_sentence(metrics["held_out"])}

## How it was made

* {metrics["battles"]:,} battles of {metrics["models"]} models on {metrics["prompts"]:,} prompts,
  {metrics["ties"]:,} of them ties; {metrics["pair_battles"]:,} are of the pair itself, most of them on exam questions.
* Embedder: the token dimensions of the mf router that ships, without its surface features, which would drown a cosine.
  They are a mean of token vectors: texts of like words are similar. The directory refers to the table instead of
  repeating it; a router that is loaded and saved again holds it.
* RouteLLM's settings: {metrics["config"]["num_tiers"]} tiers, battles within one counted as RouteLLM counts them,
  prompts under {MIN_PROMPT_CHARS} characters left out, ties half a win each. At most {_CAP_PER_PROMPT} battles a prompt
  and source. Ratings are fitted to the end, where RouteLLM stops early. The strong model is in tier {strong_tier}, the
  weak one in tier {weak_tier}; 0 is the best.
* Models with fewer than {_MIN_BATTLES_PER_MODEL} battles were left out. With them both models of the pair fell into one
  tier and every win rate was 0.5; that, and the loss on held-out battles, decided, not the benchmarks. They had been
  read once before: they showed the constant router.

{sources_table(_ORIGINS)}

Rows without a stated licence were left out. Digests of the files and settings are in `router.json`.

Command: `python -m recipes.shipped_similarity --data DIR --out DIR`.

## Use

Choose the threshold by the share of prompts that the strong model may have, `threshold_for(strong_share)`: win rates
lie close together (5 % to 95 % of {len(win_rates):,} real prompts: {low:.4f} to {high:.4f}, median {middle:.4f}), so
0.5 is no useful threshold. Calibrate on your own prompts where you can.

## Limits

* All battles count for every prompt, similar ones at most ten times as much as unrelated ones: what the battles say on
  the whole decides, and a prompt moves it little. Good order among prompts needs many battles like them.
* A win rate here ranks prompts; it is no calibrated probability.
* The vocabulary is English. A prompt of which no word is known gets the win rate of all battles alike.
* Tested on one pair of models of 2023, on exams, school mathematics and 72 chat questions. It reads only the text it is
  given: no history, no images, and of more than 512 tokens only the two ends.
"""


def _held_out_sentence(held_out: Mapping[str, Any]) -> str:
    if not held_out.get("pair_battles"):
        return "No battle of the pair was held out, so that nothing is known of its loss."
    return (
        f"On {held_out['pair_battles']:,} battles of the pair whose prompts were held out, the log loss is\n"
        f"{held_out['loss']:.4f} nats; one win rate for all prompts has {held_out['constant_loss']:.4f}."
    )


def _of_pair(labelled: Iterable[data.Labelled]) -> list[data.Labelled]:
    """Keep the scores of the pair, where there are both."""
    return [
        replace(row, scores={name: row.scores[name] for name in PAPER_PAIR})
        for row in labelled
        if row.scores.keys() >= set(PAPER_PAIR)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the router and print its results. Return 2 with one line on bad input."""
    parser = parser_of(
        "shipped_similarity", __doc__, data="train/, prompts/, routellm_evals/", out="router directory to write"
    )

    def work(options: argparse.Namespace) -> str:
        router, results = make(options.data, created=options.created, on_progress=_report)
        router.save(options.out)
        return results_table(results)

    return run(parser, arguments, work)


def _report(at: Progress) -> None:
    sys.stderr.write(f"{at.name}: {at.done} of {at.total}\n")


if __name__ == "__main__":
    sys.exit(main())
