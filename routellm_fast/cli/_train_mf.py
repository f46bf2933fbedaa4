"""`routellm-fast train mf`."""

from __future__ import annotations

from pathlib import Path

import typer

from routellm_fast.cli import _train_options as options
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.mf_command import train_mf

_MF = MatrixFactorizationConfig()


def mf(
    out: options.Out,
    battles: options.AnyBattles = None,
    golden: options.Golden = None,
    prompts: options.Prompts = None,
    licenses: options.Licenses = None,
    evaluation: options.Evaluation = None,
    refuse_overlap: options.RefuseOverlap = False,
    embedder: Path = typer.Option(SHIPPED_ROUTER, help="Embedder or model2vec directory; none: the one that ships."),
    strong_model: options.StrongModel = options.STRONG_MODEL,
    weak_model: options.WeakModel = options.WEAK_MODEL,
    cap_per_prompt: options.CapPerPrompt = 8,
    balance_sources: options.BalanceSources = True,
    other_pairs_weight: float = typer.Option(1.0, help="Weight of battles of all other pairs; the pair's own weigh 1."),
    d: int = typer.Option(_MF.d, min=1, help="Length of a model vector."),
    learning_rate: float = _MF.learning_rate,
    weight_decay: float = _MF.weight_decay,
    batch_size: options.AtLeastOne = _MF.batch_size,
    max_epochs: options.AtLeastOne = _MF.max_epochs,
    patience: options.Patience = _MF.patience,
    held_out_share: options.HeldOutShare = _MF.held_out_share,
    noise: float = typer.Option(_MF.noise, help="Noise on token dimensions while training."),
    keep_ties: bool = typer.Option(False, "--keep-ties", help="Let a tie of battles be half a win for each."),
    soft_labels: options.SoftLabels = False,
    centre_sources: bool = typer.Option(
        False, "--centre-sources", help="Give every source the same mean for a pair of models."
    ),
    refit: bool = typer.Option(
        False, "--refit", help="Once epochs are chosen, train on all battles, those held out too."
    ),
    ensemble: int = typer.Option(1, min=1, help="Train so many seeds and fold them into one router."),
    checkpoint: options.Checkpoint = None,
    seed: options.Seed = _MF.seed,
    created: options.Created = "",
    metrics: options.Metrics = None,
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
    options.check_metrics(metrics)
    pair = ModelPair(strong_model, weak_model)
    sources = options.sources_of(battles, golden, prompts, licenses, evaluation, refuse_overlap)
    options.check_used(
        ("--keep-ties", keep_ties, "--battles", battles),
        ("--soft-labels", soft_labels, "--golden", golden),
    )
    with options.training_bar(checkpoint) as on_progress:
        found = train_mf(
            embedder=StaticEmbedder.load(embedder),
            model_pair=pair,
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
            created=created or options.today(),
            on_progress=on_progress,
            **sources,
        )
    options.report(metrics, found, "mf", out, pair)
