"""What the commands of `routellm-fast train` share: options, the progress bar, and how metrics are shown."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from routellm_fast.cli._progress import progress_bar
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training.loading import SourceArguments
from routellm_fast.training.progress import OnProgress

Out = Annotated[Path, typer.Option(help="Router directory to write.")]
_SOURCE = "CSV, JSON lines or Parquet, a folder of these, or hf:OWNER/NAME[:SPLIT]. May be given several times."
_BATTLES = "Battles: prompt or prompt_id, model_a, model_b, winner"
Battles = Annotated[list[Path] | None, typer.Option(help=f"{_BATTLES}, optional weight, judge. {_SOURCE}")]
AnyBattles = Annotated[
    list[Path] | None,
    typer.Option(help=f"{_BATTLES}, optional weight, judge; or a RouteLLM dataset. {_SOURCE}"),
]
UnweightedBattles = Annotated[list[Path] | None, typer.Option(help=f"{_BATTLES}; or a RouteLLM dataset. {_SOURCE}")]
Golden = Annotated[
    list[Path] | None,
    typer.Option(help=f"Golden labels: a prompt and one score column a model. {_SOURCE}"),
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
AlsoStrong = Annotated[list[str] | None, typer.Option(help="A model that counts as the strong one. Repeatable.")]
AlsoWeak = Annotated[list[str] | None, typer.Option(help="A model that counts as the weak one. Repeatable.")]
CapPerPrompt = Annotated[int, typer.Option(min=1, help="At most this many battles a prompt in each source.")]
MaxPrompts = Annotated[int | None, typer.Option(min=2, help="Train on about so many prompts; none: all.")]
BalanceSources = Annotated[bool, typer.Option(help="Let every source weigh the same.")]
SoftLabels = Annotated[
    bool, typer.Option("--soft-labels", help="Let golden labels say by how much a score was higher.")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="Most tokens of a prompt that are read.")]
AtLeastOne = Annotated[int, typer.Option(min=1)]
Patience = Annotated[int, typer.Option(min=1, help="Epochs without a lower held-out loss.")]
HeldOutShare = Annotated[float, typer.Option(help="Share of prompt groups held out.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Directory in which each epoch is kept; the same command goes on from there.")
]
Seed = Annotated[int, typer.Option(help="Same seed, same router, to the bit on one machine.")]
Created = Annotated[str, typer.Option(help="Date for the record; none: today.")]
Metrics = Annotated[Path | None, typer.Option(help="Also write the metrics here, as JSON.")]

STRONG_MODEL = "gpt-4-1106-preview"
WEAK_MODEL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def sources_of(
    battles: list[Path] | None,
    golden: list[Path] | None,
    prompts: list[Path] | None,
    licenses: list[str] | None,
    evaluation: list[Path] | None,
    refuse_overlap: bool,
) -> SourceArguments:
    """Return what to read. Raises InvalidArgumentError for an option that would do nothing."""
    check_used(("--license", licenses, "--battles", battles))
    check_used(("--refuse-overlap", refuse_overlap, "--evaluation", evaluation))
    return {
        "battles": battles or [],
        "golden": golden or [],
        "prompts": prompts or [],
        "licenses": licenses or None,
        "evaluation": evaluation or [],
        "refuse_overlap": refuse_overlap,
    }


def _held_out_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics say about the battles held out, by names to show."""
    if "held_out" in metrics:  # of an ensemble and of sw_ranking
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
def training_bar(checkpoint: Path | None = None, *, is_resumable: bool = True) -> Iterator[OnProgress | None]:
    """Yield what shows a training's progress, None where nobody would see it. After ^C, say how to go on."""
    with progress_bar("reading") as move:
        try:
            yield move and (lambda at: move(at.name, at.done, at.total))
        except KeyboardInterrupt:
            if is_resumable:
                advice = (
                    "nothing is kept; with --checkpoint DIR each epoch would be"
                    if checkpoint is None
                    else f"{checkpoint} keeps each whole epoch: give the same command again to go on"
                )
                typer.echo(f"routellm-fast: interrupted; {advice}", err=True)
            raise


def report(metrics: Path | None, found: dict[str, Any], kind: str, out: Path, pair: ModelPair) -> None:
    """Write the metrics where a path is given, and print the main ones."""
    write_metrics(metrics, found)
    show_metrics(f"{out}: {kind} router of {pair.strong} against {pair.weak}", {**found, **_held_out_of(found)})
