"""`routellm-fast train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from routellm_fast.cli import _train_bert, _train_causal_llm
from routellm_fast.cli._embedder import named_embedder
from routellm_fast.cli._progress import progress_bar
from routellm_fast.cli._train_options import (
    SOURCE,
    STRONG_MODEL,
    WEAK_MODEL,
    CapPerPrompt,
    Created,
    Evaluation,
    Golden,
    HeldOutShare,
    Licenses,
    Metrics,
    Out,
    Prompts,
    RefuseOverlap,
    StrongModel,
    WeakModel,
    check_metrics,
    check_used,
    epoch_bar,
    held_out_of,
    resumable,
    show_metrics,
    today,
    write_metrics,
)
from routellm_fast.data.routellm_datasets import MIN_PROMPT_CHARS
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.routers.similarity.router import PRECISIONS
from routellm_fast.training import (
    MatrixFactorizationConfig,
    SimilarityWeightedConfig,
    Stage,
    train_mf,
    train_sw_ranking,
)

app = typer.Typer(help="Train a router on preference data.", no_args_is_help=True)
app.command("bert")(_train_bert.bert)
app.command("causal_llm")(_train_causal_llm.causal_llm)
_MF = MatrixFactorizationConfig()
_SW = SimilarityWeightedConfig()


@app.command("mf")
def mf(
    out: Out,
    battles: list[Path] | None = typer.Option(
        None,
        help="Battles: prompt or prompt_id, model_a, model_b, winner, optional weight, judge; or a RouteLLM dataset. "
        f"{SOURCE}",
    ),
    golden: Golden = None,
    prompts: Prompts = None,
    licenses: Licenses = None,
    evaluation: Evaluation = None,
    refuse_overlap: RefuseOverlap = False,
    embedder: Path = typer.Option(SHIPPED_ROUTER, help="Embedder or model2vec directory; none: the one that ships."),
    strong_model: StrongModel = STRONG_MODEL,
    weak_model: WeakModel = WEAK_MODEL,
    cap_per_prompt: CapPerPrompt = 8,
    balance_sources: bool = typer.Option(True, help="Let every source weigh the same."),
    other_pairs_weight: float = typer.Option(1.0, help="Weight of battles of all other pairs; the pair's own weigh 1."),
    d: int = typer.Option(_MF.d, min=1, help="Length of a model vector."),
    learning_rate: float = typer.Option(_MF.learning_rate),
    weight_decay: float = typer.Option(_MF.weight_decay),
    batch_size: int = typer.Option(_MF.batch_size, min=1),
    max_epochs: int = typer.Option(_MF.max_epochs, min=1),
    patience: int = typer.Option(_MF.patience, min=1, help="Epochs without a lower held-out loss."),
    held_out_share: HeldOutShare = _MF.held_out_share,
    noise: float = typer.Option(_MF.noise, help="Noise on token dimensions while training."),
    keep_ties: bool = typer.Option(False, "--keep-ties", help="Let a tie of battles be half a win for each."),
    soft_labels: bool = typer.Option(
        False, "--soft-labels", help="Let golden labels say by how much a score was higher."
    ),
    centre_sources: bool = typer.Option(
        False, "--centre-sources", help="Give every source the same mean for a pair of models."
    ),
    refit: bool = typer.Option(
        False, "--refit", help="Once epochs are chosen, train on all battles, those held out too."
    ),
    ensemble: int = typer.Option(1, min=1, help="Train so many seeds and fold them into one router."),
    checkpoint: Path | None = typer.Option(
        None, help="Directory in which each epoch is kept; the same command goes on from there."
    ),
    seed: int = typer.Option(_MF.seed, help="Same seed, same router, to the bit on one machine."),
    created: Created = "",
    metrics: Metrics = None,
) -> None:
    """Train matrix factorization; held-out prompt groups decide when to stop."""
    config = MatrixFactorizationConfig(
        d=d,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        max_epochs=max_epochs,
        patience=patience,
        held_out_share=held_out_share,
        noise=noise,
        seed=seed,
    )
    check_metrics(metrics)
    check_used(
        ("--license", licenses, "--battles", battles),
        ("--refuse-overlap", refuse_overlap, "--evaluation", evaluation),
        ("--keep-ties", keep_ties, "--battles", battles),
        ("--soft-labels", soft_labels, "--golden", golden),
    )
    with epoch_bar() as on_progress, resumable(checkpoint):
        found = train_mf(
            battles=battles or [],
            golden=golden or [],
            prompts=prompts or [],
            licenses=licenses or None,
            evaluation=evaluation or [],
            refuse_overlap=refuse_overlap,
            embedder=StaticEmbedder.load(embedder),
            model_pair=ModelPair(strong_model, weak_model),
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            balance_sources=balance_sources,
            other_pairs_weight=other_pairs_weight,
            keep_ties=keep_ties,
            soft_labels=soft_labels,
            centre_sources=centre_sources,
            refit=refit,
            ensemble=ensemble,
            checkpoint=checkpoint,
            created=created or today(),
            on_progress=on_progress,
        )
    write_metrics(metrics, found)
    show_metrics(f"{out}: mf router of {strong_model} against {weak_model}", {**found, **held_out_of(found)})


@app.command("sw_ranking")
def sw_ranking(
    out: Out,
    battles: list[Path] | None = typer.Option(
        None,
        help=f"Battles: prompt or prompt_id, model_a, model_b, winner; or a RouteLLM dataset. {SOURCE}",
    ),
    golden: Golden = None,
    prompts: Prompts = None,
    embeddings: list[Path] | None = typer.Option(
        None,
        help="The embeddings of RouteLLM datasets, in their order: Parquet or .npy. None: the embedder makes them. May "
        "be given several times.",
    ),
    licenses: Licenses = None,
    evaluation: Evaluation = None,
    refuse_overlap: RefuseOverlap = False,
    embedder: str | None = typer.Option(
        None,
        help="Embedder or model2vec directory, onnx:DIR, openai:MODEL, or `none` to score embeddings only; not given: "
        "the one that ships. With --embeddings, the one that made them.",
    ),
    strong_model: StrongModel = STRONG_MODEL,
    weak_model: WeakModel = WEAK_MODEL,
    num_tiers: int = typer.Option(_SW.num_tiers, min=2, help="How many tiers the models are split into."),
    precision: str = typer.Option(_SW.precision, help=f"How the bank is kept: {', '.join(PRECISIONS)}."),
    same_tier: str = typer.Option(
        _SW.same_tier, help="Battles within a tier: as `routellm` counts them, or `ignore` them."
    ),
    solver: str = typer.Option(_SW.solver, help="`exact`, or `routellm` to stop where RouteLLM's does."),
    cap_per_prompt: CapPerPrompt = 8,
    min_prompt_chars: int = typer.Option(MIN_PROMPT_CHARS, min=0, help="Leave out battles on shorter prompts."),
    held_out_share: HeldOutShare = _SW.held_out_share,
    seed: int = typer.Option(_SW.seed, help="Draws capped battles and held-out prompts."),
    created: Created = "",
    metrics: Metrics = None,
) -> None:
    """Build a similarity-weighted router; prompts held out at first judge and calibrate it."""
    config = SimilarityWeightedConfig(
        num_tiers=num_tiers,
        precision=precision,
        same_tier=same_tier,
        solver=solver,
        held_out_share=held_out_share,
        seed=seed,
    )
    check_metrics(metrics)
    check_used(
        ("--license", licenses, "--battles", battles),
        ("--refuse-overlap", refuse_overlap, "--evaluation", evaluation),
    )
    with _stage_bar() as on_progress:
        found = train_sw_ranking(
            battles=battles or [],
            golden=golden or [],
            prompts=prompts or [],
            embeddings=embeddings or [],
            licenses=licenses or None,
            evaluation=evaluation or [],
            refuse_overlap=refuse_overlap,
            embedder=_cosine_embedder(embedder, has_embeddings=bool(embeddings)),
            model_pair=ModelPair(strong_model, weak_model),
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            min_prompt_chars=min_prompt_chars,
            created=created or today(),
            on_progress=on_progress,
        )
    write_metrics(metrics, found)
    held_out = {f"held_out_{key}": value for key, value in found["held_out"].items()}
    show_metrics(f"{out}: sw_ranking router of {strong_model} against {weak_model}", {**found, **held_out})
    strong_tier, weak_tier = found["pair_tiers"]
    typer.echo(f"  tiers of the pair: {strong_tier} and {weak_tier} of {num_tiers}, 0 the best")
    if strong_tier == weak_tier:
        typer.echo(
            "warning: with both models in one tier every win rate is 0.5. Models with few battles take up tiers: "
            "leave them out, or give --num-tiers more.",
            err=True,
        )


def _cosine_embedder(name: str | None, *, has_embeddings: bool) -> Embedder | None:
    if has_embeddings:
        if name is None:
            raise InvalidArgumentError(
                "--embeddings do not tell what made them: name it by --embedder, e.g. openai:text-embedding-3-small "
                "for RouteLLM's own, or none for a router of embeddings only"
            )
        return named_embedder(name)
    embedder = named_embedder(name or str(SHIPPED_ROUTER))
    return embedder.tokens_only() if isinstance(embedder, StaticEmbedder) else embedder


@contextmanager
def _stage_bar() -> Iterator[Callable[[Stage], None] | None]:
    with progress_bar("reading") as move:
        yield move and (lambda stage: move(stage.name, stage.done, stage.total))
