"""`routellm-fast train sw_ranking`."""

from __future__ import annotations

from pathlib import Path

import typer

from routellm_fast.cli import _train_options as options
from routellm_fast.cli._embedder import named_embedder
from routellm_fast.cli._left_out import Strict
from routellm_fast.cli._outputs import Force
from routellm_fast.data.routellm_datasets import MIN_PROMPT_CHARS
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.routers.similarity.router import PRECISIONS
from routellm_fast.training.configs import SimilarityWeightedConfig
from routellm_fast.training.sw_ranking_command import train_sw_ranking

_SW = SimilarityWeightedConfig()


def sw_ranking(
    out: options.Out,
    battles: options.UnweightedBattles = None,
    golden: options.Golden = None,
    prompts: options.Prompts = None,
    embeddings: list[Path] | None = typer.Option(
        None,
        help="Embeddings of the RouteLLM datasets in --battles, in their order: Parquet or .npy. Not given: the "
        "embedder makes them. May be given several times.",
    ),
    licenses: options.Licenses = None,
    models: options.Models = None,
    evaluation: options.Evaluation = None,
    refuse_overlap: options.RefuseOverlap = False,
    embedder: str | None = typer.Option(
        None,
        help="Embedder or model2vec directory, onnx:DIR, openai:MODEL[,SETTING=VALUE…], or `none` to score embeddings "
        "only; not given: the one that ships. With --embeddings: the embedder that made them.",
    ),
    strong_model: options.StrongModel = options.STRONG_MODEL,
    weak_model: options.WeakModel = options.WEAK_MODEL,
    num_tiers: int = typer.Option(
        _SW.num_tiers, min=2, metavar="N", help="Number of tiers into which the models are split."
    ),
    precision: str = typer.Option(
        _SW.precision, help=f"Precision in which battles are stored: {', '.join(PRECISIONS)}."
    ),
    same_tier: str = typer.Option(
        _SW.same_tier,
        help="What battles within a tier do: `routellm` counts them as RouteLLM does, `ignore` leaves them out.",
    ),
    solver: str = typer.Option(
        _SW.solver, help="How ratings are fitted: `exact`, or `routellm` to stop where RouteLLM's solver stops."
    ),
    cap_per_prompt: options.CapPerPrompt = 8,
    min_prompt_chars: int = typer.Option(
        MIN_PROMPT_CHARS, min=0, metavar="N", help="Leave out battles on prompts with fewer characters."
    ),
    held_out_share: options.HeldOutShare = _SW.held_out_share,
    seed: int = typer.Option(_SW.seed, help="Seed by which --cap-per-prompt and held-out prompts are drawn."),
    strict: Strict = False,
    created: options.Created = "",
    metrics: options.Metrics = None,
    require_better: options.RequireBetter = None,
    force: Force = False,
) -> None:
    """Build a similarity-weighted router; held-out prompts, scored by battles on others, measure and calibrate it."""
    config = SimilarityWeightedConfig(
        num_tiers=num_tiers,
        precision=precision,
        same_tier=same_tier,
        solver=solver,
        held_out_share=held_out_share,
        seed=seed,
    )
    options.check_required(require_better)
    options.check_metrics(metrics, force=force)
    pair = ModelPair(strong_model, weak_model)
    sources = options.sources_of(
        battles, golden, prompts, licenses, evaluation, refuse_overlap, strict=strict, models=models
    )
    with options.training_bar(is_resumable=False) as on_progress:
        found = train_sw_ranking(
            embeddings=embeddings or [],
            embedder=_cosine_embedder(embedder, has_embeddings=bool(embeddings)),
            model_pair=pair,
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            min_prompt_chars=min_prompt_chars,
            created=created or options.today(),
            force=force,
            on_progress=on_progress,
            **sources,
        )
    options.say_what_was_left_out(sources)
    strong_tier, weak_tier = found["pair_tiers"]
    shown = {**found, "tiers_of_the_pair": f"{strong_tier} and {weak_tier} of {num_tiers}, 0 the best"}
    options.report(metrics, found, "sw_ranking", out, pair, shown=shown, require_better=require_better)


def _cosine_embedder(name: str | None, *, has_embeddings: bool) -> Embedder | None:
    if has_embeddings:
        if name is None:
            raise InvalidArgumentError(
                "--embeddings do not say which embedder made them: name it by --embedder, e.g. "
                "openai:text-embedding-3-small for RouteLLM's own, or none for a router that scores embeddings only"
            )
        return named_embedder(name)
    embedder = named_embedder(name or str(SHIPPED_ROUTER))
    return embedder.tokens_only() if isinstance(embedder, StaticEmbedder) else embedder
