"""What the commands of `routellm-fast train` share: options, progress bars, and how metrics are shown."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_fast.cli._progress import progress_bar
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training.progress import Progress

Out = Annotated[Path, typer.Option(help="Router directory to write.")]
SOURCE = "CSV, JSON lines or Parquet, a folder of these, or hf:OWNER/NAME[:SPLIT]. May be given several times."
Golden = Annotated[
    list[Path] | None,
    typer.Option(help=f"Golden labels: a prompt and one score column a model. {SOURCE}"),
]
Prompts = Annotated[list[Path] | None, typer.Option(help="File in which prompt_id is looked up.")]
Evaluation = Annotated[
    list[Path] | None,
    typer.Option(help="Evaluation set, file or folder: no battle on its prompts is used. Repeatable."),
]
RefuseOverlap = Annotated[
    bool,
    typer.Option(
        "--refuse-overlap", help="Stop where there are battles on evaluation prompts, instead of leaving them out."
    ),
]
Licenses = Annotated[list[str] | None, typer.Option("--license", help="Use only battles of this license; none: all.")]
StrongModel = Annotated[str, typer.Option(help="Strong model of the pair, as the data name it.")]
WeakModel = Annotated[str, typer.Option(help="Weak model of the pair.")]
CapPerPrompt = Annotated[int, typer.Option(min=1, help="At most this many battles a prompt in each source.")]
HeldOutShare = Annotated[float, typer.Option(help="Share of prompt groups held out.")]
Created = Annotated[str, typer.Option(help="Date for the record; none: today.")]
Metrics = Annotated[Path | None, typer.Option(help="Also write the metrics here, as JSON.")]

STRONG_MODEL = "gpt-4-1106-preview"
WEAK_MODEL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def held_out_of(metrics: dict[str, Any]) -> dict[str, float]:
    """Return what mf's metrics say about the battles held out, by names to show."""
    if "held_out" in metrics:  # an ensemble's
        return {f"held_out_{name}": value for name, value in metrics["held_out"].items()}
    best = metrics["epochs"][metrics["best_epoch"] - 1]
    return {name: value for name, value in best.items() if name.startswith("held_out")}


def today() -> str:
    """Return the date as the record has it."""
    return datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()


def show_metrics(title: str, metrics: dict[str, Any]) -> None:
    """Print numbers and names of metrics, and what became of each source."""
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


def check_metrics(path: Path | None) -> None:
    """Refuse a place that cannot be written before the training, not after it."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}, where the metrics should go, is no directory")
    if path.is_dir():
        raise DataError(f"{path}, where the metrics should go, is a directory: name a file")


def check_used(*options: tuple[str, object, str, object]) -> None:
    """Refuse options that would do nothing: each with its value, then the option that it works on with its own."""
    for option, value, needed, found in options:
        if value and not found:
            raise InvalidArgumentError(f"{option} does nothing without {needed}")


def write_metrics(path: Path | None, metrics: dict[str, Any]) -> None:
    """Write metrics as JSON, where a path is given. Raises DataError where that cannot be done."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); the router itself is saved") from error


@contextmanager
def epoch_bar() -> Iterator[Callable[[Progress], None] | None]:
    """A bar of epochs with their loss."""
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
def resumable(checkpoint: Path | None) -> Iterator[None]:
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
