"""`routellm-fast train mf`."""

from __future__ import annotations

from pathlib import Path

import typer

from routellm_fast.cli import _train_options as options
from routellm_fast.cli._left_out import Strict
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
    models: options.Models = None,
    evaluation: options.Evaluation = None,
    refuse_overlap: options.RefuseOverlap = False,
    embedder: Path = typer.Option(
        SHIPPED_ROUTER, help="Embedder or model2vec directory; not given: the one that ships.", show_default=False
    ),
    strong_model: options.StrongModel = options.STRONG_MODEL,
    weak_model: options.WeakModel = options.WEAK_MODEL,
    cap_per_prompt: options.CapPerPrompt = 8,
    balance_sources: options.BalanceSources = True,
    other_pairs_weight: float = typer.Option(
        1.0, help="Total weight of all battles between other models; those of the pair weigh 1 together."
    ),
    d: int = typer.Option(_MF.d, min=1, metavar="N", help="Number of values in the vector of a model."),
    learning_rate: options.LearningRate = _MF.learning_rate,
    weight_decay: options.WeightDecay = _MF.weight_decay,
    batch_size: options.BatchSize = _MF.batch_size,
    max_epochs: options.MaxEpochs = _MF.max_epochs,
    patience: options.Patience = _MF.patience,
    held_out_share: options.HeldOutShare = _MF.held_out_share,
    noise: float = typer.Option(_MF.noise, help="Strength of the noise that training adds to token dimensions."),
    keep_ties: bool = typer.Option(
        False, "--keep-ties", help="Count a tie of battles as half a win for each model; otherwise ties are left out."
    ),
    soft_labels: options.SoftLabels = False,
    centre_sources: bool = typer.Option(
        False, "--centre-sources", help="Shift targets so that every source has the same mean for a pair of models."
    ),
    refit: bool = typer.Option(
        False,
        "--refit",
        help="Once the number of epochs is chosen, train again on all battles, the held-out ones included.",
    ),
    ensemble: int = typer.Option(
        1, min=1, metavar="N", help="Train with this many seeds and combine the results into one router."
    ),
    checkpoint: options.Checkpoint = None,
    seed: options.Seed = _MF.seed,
    strict: Strict = False,
    created: options.Created = "",
    metrics: options.Metrics = None,
) -> None:
    """Train a matrix factorization router; the loss on held-out prompts decides when to stop."""
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
    sources = options.sources_of(
        battles, golden, prompts, licenses, evaluation, refuse_overlap, strict=strict, models=models
    )
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
    options.say_what_was_left_out(sources)
    options.report(metrics, found, "mf", out, pair)
