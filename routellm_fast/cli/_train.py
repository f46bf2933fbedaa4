"""`routellm-fast train`."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_fast.cli._embedder import named_embedder
from routellm_fast.cli._progress import progress_bar
from routellm_fast.data.routellm_datasets import MIN_PROMPT_CHARS
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.routers.similarity_weighted import PRECISIONS
from routellm_fast.training import (
    MatrixFactorizationConfig,
    Progress,
    SimilarityWeightedConfig,
    Stage,
    train_mf,
    train_sw_ranking,
)

app = typer.Typer(help="Train a router on preference data.", no_args_is_help=True)
_MF = MatrixFactorizationConfig()
_SW = SimilarityWeightedConfig()

_Out = Annotated[Path, typer.Option(help="Router directory to write.")]
_SOURCE = "CSV, JSON lines or Parquet, a folder of these, or hf:OWNER/NAME[:SPLIT]. May be given several times."
_Golden = Annotated[
    list[Path] | None,
    typer.Option(help=f"Golden labels: a prompt and one score column a model. {_SOURCE}"),
]
_Prompts = Annotated[list[Path] | None, typer.Option(help="File in which prompt_id is looked up.")]
_Evaluation = Annotated[
    list[Path] | None,
    typer.Option(help="Evaluation set, file or folder: no battle on its prompts is used. Repeatable."),
]
_RefuseOverlap = Annotated[
    bool,
    typer.Option(
        "--refuse-overlap", help="Stop where there are battles on evaluation prompts, instead of leaving them out."
    ),
]
_Licenses = Annotated[list[str] | None, typer.Option("--license", help="Use only battles of this license; none: all.")]
_StrongModel = Annotated[str, typer.Option(help="Strong model of the pair, as the data name it.")]
_WeakModel = Annotated[str, typer.Option(help="Weak model of the pair.")]
_CapPerPrompt = Annotated[int, typer.Option(min=1, help="At most this many battles a prompt in each source.")]
_HeldOutShare = Annotated[float, typer.Option(help="Share of prompt groups held out.")]
_Created = Annotated[str, typer.Option(help="Date for the record; none: today.")]
_Metrics = Annotated[Path | None, typer.Option(help="Also write the metrics here, as JSON.")]

_STRONG_MODEL = "gpt-4-1106-preview"
_WEAK_MODEL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


@app.command("mf")
def mf(
    out: _Out,
    battles: list[Path] | None = typer.Option(
        None,
        help="Battles: prompt or prompt_id, model_a, model_b, winner, optional weight, judge; or a RouteLLM dataset. "
        f"{_SOURCE}",
    ),
    golden: _Golden = None,
    prompts: _Prompts = None,
    licenses: _Licenses = None,
    evaluation: _Evaluation = None,
    refuse_overlap: _RefuseOverlap = False,
    embedder: Path = typer.Option(SHIPPED_ROUTER, help="Embedder or model2vec directory; none: the one that ships."),
    strong_model: _StrongModel = _STRONG_MODEL,
    weak_model: _WeakModel = _WEAK_MODEL,
    cap_per_prompt: _CapPerPrompt = 8,
    balance_sources: bool = typer.Option(True, help="Let every source weigh the same."),
    other_pairs_weight: float = typer.Option(1.0, help="Weight of battles of all other pairs; the pair's own weigh 1."),
    d: int = typer.Option(_MF.d, min=1, help="Length of a model vector."),
    learning_rate: float = typer.Option(_MF.learning_rate),
    weight_decay: float = typer.Option(_MF.weight_decay),
    batch_size: int = typer.Option(_MF.batch_size, min=1),
    max_epochs: int = typer.Option(_MF.max_epochs, min=1),
    patience: int = typer.Option(_MF.patience, min=1, help="Epochs without a lower held-out loss."),
    held_out_share: _HeldOutShare = _MF.held_out_share,
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
    created: _Created = "",
    metrics: _Metrics = None,
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
    _check_metrics(metrics)
    _check_used(
        ("--license", licenses, "--battles", battles),
        ("--refuse-overlap", refuse_overlap, "--evaluation", evaluation),
        ("--keep-ties", keep_ties, "--battles", battles),
        ("--soft-labels", soft_labels, "--golden", golden),
    )
    with _epoch_bar() as on_progress, _resumable(checkpoint):
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
            created=created or _today(),
            on_progress=on_progress,
        )
    _write_metrics(metrics, found)
    _show(f"{out}: mf router of {strong_model} against {weak_model}", {**found, **_held_out(found)})


@app.command("sw_ranking")
def sw_ranking(
    out: _Out,
    battles: list[Path] | None = typer.Option(
        None,
        help=f"Battles: prompt or prompt_id, model_a, model_b, winner; or a RouteLLM dataset. {_SOURCE}",
    ),
    golden: _Golden = None,
    prompts: _Prompts = None,
    embeddings: list[Path] | None = typer.Option(
        None,
        help="The embeddings of RouteLLM datasets, in their order: Parquet or .npy. None: the embedder makes them. May "
        "be given several times.",
    ),
    licenses: _Licenses = None,
    evaluation: _Evaluation = None,
    refuse_overlap: _RefuseOverlap = False,
    embedder: str | None = typer.Option(
        None,
        help="Embedder or model2vec directory, openai:MODEL, or `none` to score embeddings only; not given: the one "
        "that ships. With --embeddings, the one that made them.",
    ),
    strong_model: _StrongModel = _STRONG_MODEL,
    weak_model: _WeakModel = _WEAK_MODEL,
    num_tiers: int = typer.Option(_SW.num_tiers, min=2, help="How many tiers the models are split into."),
    precision: str = typer.Option(_SW.precision, help=f"How the bank is kept: {', '.join(PRECISIONS)}."),
    same_tier: str = typer.Option(
        _SW.same_tier, help="Battles within a tier: as `routellm` counts them, or `ignore` them."
    ),
    solver: str = typer.Option(_SW.solver, help="`exact`, or `routellm` to stop where RouteLLM's does."),
    cap_per_prompt: _CapPerPrompt = 8,
    min_prompt_chars: int = typer.Option(MIN_PROMPT_CHARS, min=0, help="Leave out battles on shorter prompts."),
    held_out_share: _HeldOutShare = _SW.held_out_share,
    seed: int = typer.Option(_SW.seed, help="Draws capped battles and held-out prompts."),
    created: _Created = "",
    metrics: _Metrics = None,
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
    _check_metrics(metrics)
    _check_used(
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
            created=created or _today(),
            on_progress=on_progress,
        )
    _write_metrics(metrics, found)
    held_out = {f"held_out_{key}": value for key, value in found["held_out"].items()}
    _show(f"{out}: sw_ranking router of {strong_model} against {weak_model}", {**found, **held_out})
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
            message = (
                "--embeddings do not tell what made them: name it by --embedder, e.g. openai:text-embedding-3-small "
                "for RouteLLM's own, or none for a router of embeddings only"
            )
            raise InvalidArgumentError(message)
        return named_embedder(name)
    embedder = named_embedder(name or str(SHIPPED_ROUTER))
    return embedder.tokens_only() if isinstance(embedder, StaticEmbedder) else embedder


def _held_out(metrics: dict[str, Any]) -> dict[str, float]:
    """Return what mf's metrics say about the battles held out, by names to show."""
    if "held_out" in metrics:  # an ensemble's
        return {f"held_out_{name}": value for name, value in metrics["held_out"].items()}
    best = metrics["epochs"][metrics["best_epoch"] - 1]
    return {name: value for name, value in best.items() if name.startswith("held_out")}


def _today() -> str:
    return datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()


def _show(title: str, metrics: dict[str, Any]) -> None:
    typer.echo(title)
    for key, value in metrics.items():
        if isinstance(value, (int, float, str)):
            shown = f"{value:.6g}" if isinstance(value, float) else value
            typer.echo(f"  {key.replace('_', ' ')}: {shown}")
    for name, counts in metrics["data"].items():
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items())
        typer.echo(
            f"  {name}: {counts['battles']:,} battles of {counts['rows']:,} rows; left out: {left_out or 'none'}"
        )
    if "evaluation" in metrics:
        typer.echo(f"  left out for evaluation prompts: {metrics['evaluation']['battles_left_out']:,} battles")


def _check_metrics(path: Path | None) -> None:
    """Refuse a place that cannot be written before the training, not after it."""
    if path is None:
        return
    if not path.parent.is_dir():
        message = f"{path.parent}, where the metrics should go, is no directory"
        raise DataError(message)
    if path.is_dir():
        message = f"{path}, where the metrics should go, is a directory: name a file"
        raise DataError(message)


def _check_used(*options: tuple[str, object, str, object]) -> None:
    """Refuse options that would do nothing: each with its value, then the option that it works on with its own."""
    for option, value, needed, found in options:
        if value and not found:
            message = f"{option} does nothing without {needed}"
            raise InvalidArgumentError(message)


def _write_metrics(path: Path | None, metrics: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}); the router itself is saved"
        raise DataError(message) from error


@contextmanager
def _epoch_bar() -> Iterator[Callable[[Progress], None] | None]:
    with progress_bar("reading") as move:
        if move is None:
            yield None
            return

        def show(at: Progress) -> None:
            part = f"part {at.part} of {at.parts}, " if at.parts > 1 else ""
            loss = (
                f"loss {at.train_loss:.4f}" if math.isnan(at.held_out_loss) else f"held-out loss {at.held_out_loss:.4f}"
            )
            done = (at.part - 1) * at.max_epochs + at.epoch
            move(f"{part}epoch {at.epoch}, {loss}", done, at.parts * at.max_epochs)

        yield show


@contextmanager
def _resumable(checkpoint: Path | None) -> Iterator[None]:
    """Say how to go on after an interruption. What it interrupted is as the last epoch left it."""
    try:
        yield
    except KeyboardInterrupt:
        advice = (
            "nothing is kept; with --checkpoint DIR each epoch would be"
            if checkpoint is None
            else f"{checkpoint} keeps each whole epoch: give the same command again to go on"
        )
        typer.echo(f"routellm-fast: interrupted; {advice}", err=True)
        raise


@contextmanager
def _stage_bar() -> Iterator[Callable[[Stage], None] | None]:
    with progress_bar("reading") as move:
        yield move and (lambda stage: move(stage.name, stage.done, stage.total))
