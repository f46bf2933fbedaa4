"""`routellm-fast train mf`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import typer

from routellm_fast.cli import _train_options as options
from routellm_fast.cli._embedder import named_embedder
from routellm_fast.cli._left_out import Strict
from routellm_fast.cli._outputs import Force
from routellm_fast.decision import ModelPair
from routellm_fast.embedders import Embedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training.configs import GapRegressionConfig, MatrixFactorizationConfig
from routellm_fast.training.gap_regression import can_embed
from routellm_fast.training.mf_command import train_mf

_MF = MatrixFactorizationConfig()
_METHODS: Final = ("gap_regression", "gradient_descent")
# Parameters of one method only, by the names of the function's arguments.
_OF_REGRESSION: Final = ("ridge", "length_weight")
_OF_DESCENT: Final = (
    *("d", "learning_rate", "weight_decay", "batch_size", "max_epochs", "patience", "noise", "keep_ties"),
    *("soft_labels", "centre_sources", "refit", "ensemble", "checkpoint"),
)


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def mf(
    context: typer.Context,
    out: options.Out,
    battles: options.AnyBattles = None,
    golden: options.Golden = None,
    prompts: options.Prompts = None,
    licenses: options.Licenses = None,
    models: options.Models = None,
    evaluation: options.Evaluation = None,
    refuse_overlap: options.RefuseOverlap = False,
    embedder: str = typer.Option(
        str(SHIPPED_ROUTER),
        help="Embedder or model2vec directory, onnx:DIR or openai:MODEL; not given: the one that ships.",
        show_default=False,
    ),
    strong_model: options.StrongModel = options.STRONG_MODEL,
    weak_model: options.WeakModel = options.WEAK_MODEL,
    cap_per_prompt: options.CapPerPrompt = 8,
    balance_sources: options.BalanceSources = True,
    other_pairs_weight: float = typer.Option(
        1.0, help="Total weight of all battles between other models; those of the pair weigh 1 together."
    ),
    method: str | None = typer.Option(
        None,
        help=f"How to train: {' or '.join(_METHODS)}. gap_regression, which made the router that ships, learns in "
        "closed form and needs no extra, but an embedder with the surface features constant and log_tokens. "
        "gradient_descent is RouteLLM's own, in epochs, and takes any embedder (extra `train`); its options are "
        f"{_options(_OF_DESCENT)}. Not given: gap_regression, unless the embedder lacks these features or an option of "
        "gradient_descent is given.",
        show_default=False,
    ),
    ridge: float | None = typer.Option(
        None,
        help="With gap_regression: the larger, the less single words count; not given: chosen on the training part.",
    ),
    length_weight: float | None = typer.Option(
        None,
        help="With gap_regression: how much length counts beside the words; not given: chosen on the training part.",
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
    require_better: options.RequireBetter = None,
    force: Force = False,
) -> None:
    """Train a matrix factorization router, and hold it against a constant and prompt length on held-out prompts."""
    options.check_required(require_better)
    options.check_metrics(metrics, force=force)
    pair = ModelPair(strong_model, weak_model)
    sources = options.sources_of(
        battles, golden, prompts, licenses, evaluation, refuse_overlap, strict=strict, models=models
    )
    options.check_used(
        ("--keep-ties", keep_ties, "--battles", battles),
        ("--soft-labels", soft_labels, "--golden", golden),
    )
    found_embedder = named_embedder(embedder)
    if found_embedder is None:
        raise InvalidArgumentError("mf learns from embeddings of the prompts: name an embedder instead of none")
    config: GapRegressionConfig | MatrixFactorizationConfig
    if _chosen(context, method, found_embedder) == "gap_regression":
        config = GapRegressionConfig(ridge=ridge, length_weight=length_weight, held_out_share=held_out_share, seed=seed)
    else:
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
    with options.training_bar(checkpoint, is_resumable=isinstance(config, MatrixFactorizationConfig)) as on_progress:
        found = train_mf(
            embedder=found_embedder,
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
            force=force,
            on_progress=on_progress,
            **sources,
        )
    options.say_what_was_left_out(sources)
    options.report(metrics, found, "mf", out, pair, require_better=require_better)


def _chosen(context: typer.Context, method: str | None, embedder: Embedder) -> str:
    """Return the method. Raises InvalidArgumentError where an option that was typed does nothing with it."""
    if method is not None and method not in _METHODS:
        raise InvalidArgumentError(f"--method is {' or '.join(_METHODS)}, found {method!r}")
    regression, descent = (
        [name for name in names if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
        for names in (_OF_REGRESSION, _OF_DESCENT)
    )
    if method is None:
        if regression and descent:
            raise InvalidArgumentError(
                f"{_options(regression)} belongs to gap_regression and {_options(descent)} to gradient_descent: choose "
                "one by --method"
            )
        by_gaps = bool(regression) or (not descent and can_embed(embedder))
        method = "gap_regression" if by_gaps else "gradient_descent"
    useless = descent if method == "gap_regression" else regression
    if useless:
        raise InvalidArgumentError(f"{_options(useless)} does nothing with --method {method}: leave it out")
    return method
