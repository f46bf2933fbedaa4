"""How well a pool of models is chosen from, and how well the shipped router transfers to other pairs of models.

`python -m benchmarks quality-pool --data DIR` trains one mf router on battles between all models of the
golden tables, evaluates pools of their models on prompt groups that it never saw, and writes pool.json. Then it
evaluates the shipped router, unchanged, on other pairs and on the prompt groups that were held out of its own training,
and writes transfer.json. Each has a Markdown table beside it. Takes about a minute; needs the extra `train`.

Nothing here is chosen by these results. CONFIG rests on the loss on prompt groups held out within the training part;
pools, price stand-ins and pairs are written down below.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.quality.command import Result, run
from routellm_fast import ModelPair, load_router
from routellm_fast.data import (
    Labelled,
    balanced,
    file_digest,
    group_of,
    held_out,
    pairs,
    read_golden,
    read_prompts,
    to_arrays,
)
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import DataError
from routellm_fast.evaluation.pool import PoolResult, evaluate_pool, pool_table, pool_verdict, priced_pool
from routellm_fast.evaluation.transfer import (
    MIN_GAP,
    MIN_PROMPTS,
    TransferRow,
    eligible_pairs,
    transfer_markdown,
    transfer_summary,
    transfer_table,
)
from routellm_fast.pool import ModelPool, PoolModel
from routellm_fast.routers.base import Router
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.training import MatrixFactorizationConfig
from routellm_fast.training.matrix_factorization import train

TABLES: Final = {
    "RouterBench": "golden_routerbench.csv.gz",
    "MMLU-Pro": "golden_mmlu_pro.csv.gz",
    "LLMRouter": "golden_llmrouter.csv.gz",
}
PROMPTS: Final = "prompts.csv.gz"
# Of the prompt groups, for the pools; the shipped router held out its own share.
HELD_OUT_SHARE: Final = 0.3
HELD_OUT_SEED: Final = 0
_BATTLES_PER_PROMPT: Final = 32
CONFIG: Final = MatrixFactorizationConfig(
    d=64,
    learning_rate=2e-3,
    weight_decay=1e-3,
    batch_size=512,
    max_epochs=6,
    patience=3,
    held_out_share=0.15,
    noise=0.0,
    token_scale=0.3,
    surface_scale=1.0,
    seed=1,
)
# Where a table has no costs, an answer costs in proportion to a model's parameters, in billions as its name says them:
# a stand-in for a price list, of which only the ratios matter. Models whose name does not say take no part.
_USD_PER_1K_AND_BILLION: Final = 0.005
_SIZE: Final = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])")
# A model that was not run on nearly all prompts of a table would take these prompts away from all others.
_MIN_COVERAGE: Final = 0.95
# Large and small model of one family and release, in every table; strong first.
FAMILIES: Final[Mapping[str, tuple[ModelPair, ...]]] = {
    "RouterBench": (
        ModelPair("gpt-4-1106-preview", "gpt-3.5-turbo-1106"),
        ModelPair("claude-1", "claude-instant-1"),
        ModelPair("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral-7b-instruct"),
    ),
    "MMLU-Pro": (
        ModelPair("llama-3.1-70b-instruct", "llama-3.1-8b-instruct"),
        ModelPair("llama-3.1-70b", "llama-3.1-8b"),
        ModelPair("llama-3-70b", "llama-3-8b"),
        ModelPair("llama-2-70b", "llama-2-7b"),
        ModelPair("gemini-1.5-pro-002", "gemini-1.5-flash-002"),
        ModelPair("qwen1.5-72b-chat", "qwen1.5-7b-chat"),
        ModelPair("yi-34b", "yi-6b"),
        ModelPair("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral-7b-instruct"),
        ModelPair("mixtral-8x7b-v0.1", "mistral-7b-v0.1"),
    ),
    "LLMRouter": (
        ModelPair("llama3-chatqa-1.5-70b", "llama3-chatqa-1.5-8b"),
        ModelPair("llama-3.1-nemotron-51b-instruct", "llama-3.1-8b-instruct"),
        ModelPair("gemma-2-9b-it", "codegemma-7b"),
    ),
}


def read_tables(folder: Path) -> dict[str, list[Labelled]]:
    """Return the golden tables by name, without prompts that the battles hold too. Raises DataError.

    There such a prompt is of another group, and may have been trained on where it is held out here.
    """
    battles = {group_of(prompt) for prompt, _ in read_prompts(folder / "train" / PROMPTS).values()}
    return {
        name: [row for row in read_golden(folder / "train" / file) if group_of(row.prompt) not in battles]
        for name, file in TABLES.items()
    }


def split(labelled: Sequence[Labelled], share: float, seed: int) -> tuple[list[Labelled], list[Labelled]]:
    """Return the rows of the groups trained on, and of those held out."""
    out = held_out([row.group for row in labelled], share, seed=seed)
    return (
        [row for row, is_out in zip(labelled, out, strict=True) if not is_out],
        [row for row, is_out in zip(labelled, out, strict=True) if is_out],
    )


def train_on(rows: Mapping[str, Sequence[Labelled]], embedder: StaticEmbedder) -> MatrixFactorizationRouter:
    """Return an mf router of all models of the tables; every table weighs the same."""
    battles = [
        replace(battle, source=name)
        for name, labelled in rows.items()
        for battle in pairs(labelled, cap_per_prompt=_BATTLES_PER_PROMPT, seed=CONFIG.seed)
    ]
    trained = train(to_arrays(balanced(battles, 1.0)), embedder, CONFIG)
    pair = ModelPair(*trained.model_names[:2])  # a pool has no use for it
    return trained.router(model_pair=pair, embedder=embedder, provenance={"training": trained.metrics})


def pool_of(
    router: MatrixFactorizationRouter, rows: Sequence[Labelled], only: Sequence[str] | None = None
) -> ModelPool:
    """Return the pool of a table's models, with their mean costs on these rows, or by their size."""
    names = sorted({name for row in rows for name in row.scores})
    names = [name for name in names if sum(name in row.scores for row in rows) >= _MIN_COVERAGE * len(rows)]
    names = [name for name in names if only is None or name in only]
    if any(row.costs for row in rows):
        return priced_pool(router, rows, models=names)
    sizes = {name: billions(name) for name in names}
    return ModelPool(
        router, [PoolModel(name, _USD_PER_1K_AND_BILLION * size) for name, size in sizes.items() if size is not None]
    )


def billions(name: str) -> float | None:
    """Return how many billion parameters answer a token, as a model's name says; None where it does not."""
    # Of Mixtral's experts two answer a token: 12.9 billion parameters.
    if "8x7b" in name.lower():
        return 12.9
    found = _SIZE.search(name.lower())
    return float(found.group(1)) if found else None


def evaluate_pools(
    tables: Mapping[str, Sequence[Labelled]], embedder: StaticEmbedder
) -> tuple[dict[str, dict[str, PoolResult]], dict[str, Any]]:
    """Return results by table and pool, and the record of the training."""
    parts = {name: split(rows, HELD_OUT_SHARE, HELD_OUT_SEED) for name, rows in tables.items()}
    router = train_on({name: seen for name, (seen, _) in parts.items()}, embedder)
    results: dict[str, dict[str, PoolResult]] = {}
    for name, (seen, unseen) in parts.items():
        everyone = pool_of(router, seen)
        # Models that a mixture of others beats on the training part at the same cost, nobody would put in a pool.
        corners = evaluate_pool(everyone, seen, resamples=1).mixture
        results[name] = {"all models": evaluate_pool(everyone, unseen, name=name)}
        if len(corners) > 1:
            few = pool_of(router, seen, corners)
            results[name]["models on the hull"] = evaluate_pool(few, unseen, name=name)
    return results, dict(router.provenance["training"])


def evaluate_transfer(tables: Mapping[str, Sequence[Labelled]], router: Router) -> dict[str, Any]:
    """Return family pairs, those left out, and the summary over all eligible pairs of every table.

    Raises:
        DataError: The router does not say which prompt groups it was not trained on.
    """
    config = dict(router.provenance.get("training", {})).get("config", {})
    if not {"held_out_share", "seed"} <= set(config):
        raise DataError(
            "the router's provenance has no training.config with held_out_share and seed: which prompt groups were "
            "held out of its training is unknown"
        )
    rows: list[TransferRow] = []
    left_out, summaries = [], []
    for name, labelled in tables.items():
        _, unseen = split(labelled, config["held_out_share"], config["seed"])
        found = transfer_table(router, unseen, FAMILIES[name], table=name)
        kept = {(row.strong_model, row.weak_model) for row in found}
        left_out += [{"table": name, **pair._asdict()} for pair in FAMILIES[name] if tuple(pair) not in kept]
        rows += found
        trained = set(router.model_pair)
        others = [pair for pair in eligible_pairs(unseen) if set(pair) != trained]
        summaries.append(transfer_summary(router, unseen, others, table=name))
    return {
        "held_out": {"share": config["held_out_share"], "seed": config["seed"]},
        "rule": {"min_gap": MIN_GAP, "min_prompts": MIN_PROMPTS},
        "rows": rows,
        "left_out": left_out,
        "all_pairs": summaries,
    }


def pool_markdown(results: Mapping[str, Mapping[str, PoolResult]]) -> str:
    """Return all pools, one section each."""
    parts = []
    for table, pools in results.items():
        for pool, result in pools.items():
            costs = "as recorded" if result.costs == "measured" else "by number of parameters"
            parts.append(
                f"## {table}, {pool}\n\n{result.prompts:,} held-out prompts, {result.dropped} more left out; costs "
                f"{costs}. Mean quality over all costs: pool {_text(result.area)}, prompt length "
                f"{_text(result.length_area)}, random mixture of models {_text(result.mixture_aiq)}; pool less mixture "
                f"{_text(result.area_gain, sign=True)}, pool less length {_text(result.length_gain, sign=True)}.\n\n"
                + _sentences(result)
                + pool_table(result)
            )
    return "\n\n".join(parts) + "\n"


def _sentences(result: PoolResult) -> str:
    lines = [
        *pool_verdict(result),
        *(
            f"{at.quality_share:.0%} of the quality of {result.best_single} for {at.cost_share.value:.1%} of its cost "
            f"[{at.cost_share.low:.1%}, {at.cost_share.high:.1%}]; mixture {at.mixture_cost_share.value:.1%}"
            for at in result.at_quality
        ),
    ]
    return "".join(f"* {line}\n" for line in lines) + "\n"


def _text(interval: Any, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _rounded(value: Any) -> Any:
    """Round floats: files that a last digit does not change, and no digit that says nothing."""
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6)
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    return value


def transfer_page(transfer: Mapping[str, Any]) -> str:
    means = "\n".join(
        f"* {row.table}: mean APGR {row.mean_apgr:.3f} over {row.pairs} pairs, prompt length {row.mean_length_apgr:.3f}"
        for row in transfer["all_pairs"]
    )
    return (
        "# The router that ships on other pairs of models\n\n"
        "The router is unchanged, its own pair is gpt-4-1106-preview / Mixtral-8x7B; prompts are of groups held out\n"
        "of its training. It has met the other models in training, in battles at a tenth of the weight, but was not\n"
        f"trained for these pairs. Pairs of one maker, chosen by name; at least {MIN_PROMPTS} prompts and a gap of\n"
        f"{MIN_GAP:g}. APGR: 0.5 is chance. Over all pairs that keep the rule:\n\n"
        f"{means}\n\n{transfer_markdown(transfer['rows'])}\n"
    )


def make(options: argparse.Namespace) -> list[Result]:
    """Train and evaluate. Return the files' contents. Raises RouteLLMError."""
    tables = read_tables(options.data)
    files = {file: file_digest(options.data / "train" / file) for file in (*TABLES.values(), PROMPTS)}
    transfer = evaluate_transfer(tables, load_router(options.router))
    pools, training = evaluate_pools(tables, StaticEmbedder.load(SHIPPED_ROUTER))
    pool_record = {
        "files": files,
        "held_out": {"share": HELD_OUT_SHARE, "seed": HELD_OUT_SEED},
        "training": training,
        "results": {
            table: {pool: result.to_json() for pool, result in found.items()} for table, found in pools.items()
        },
    }
    transfer_record = {
        "files": files,
        **{key: transfer[key] for key in ("held_out", "rule", "left_out")},
        **{key: [row.to_json() for row in transfer[key]] for key in ("rows", "all_pairs")},
    }
    return [
        Result("pool", _rounded(pool_record), pool_markdown(pools)),
        Result("transfer", _rounded(transfer_record), transfer_page(transfer)),
    ]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--router", type=Path, help="router whose transfer is measured; default: the one that ships")


def main(arguments: Sequence[str]) -> int:
    """Write pool.json and transfer.json. Return 2 with one line on bad input."""
    return run("quality-pool", __doc__ or "", make, arguments, _add_arguments)
