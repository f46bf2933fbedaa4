"""The options, the progress bar and the printing of metrics that the commands of `routellm-fast train` share."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from routellm_fast.cli._left_out import left_out_of, say_left_out
from routellm_fast.cli._outputs import check_vacant_outputs, write_json
from routellm_fast.cli._printing import say, tell
from routellm_fast.cli._progress import progress_bar
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training.loading import SourceArguments
from routellm_fast.training.progress import OnProgress

Out = Annotated[Path, typer.Option(help="Router directory to write.")]
_SOURCE = "A CSV, JSON lines or Parquet file, a folder of these, or hf:OWNER/NAME[:SPLIT]. May be given several times."
_BATTLES = "Battles: prompt or prompt_id, model_a, model_b, winner"
Battles = Annotated[list[Path] | None, typer.Option(help=f"{_BATTLES}, optionally weight and judge. {_SOURCE}")]
AnyBattles = Annotated[
    list[Path] | None,
    typer.Option(help=f"{_BATTLES}, optionally weight and judge; or a RouteLLM dataset. {_SOURCE}"),
]
UnweightedBattles = Annotated[list[Path] | None, typer.Option(help=f"{_BATTLES}; or a RouteLLM dataset. {_SOURCE}")]
Golden = Annotated[
    list[Path] | None,
    typer.Option(help=f"Golden labels: a prompt and one score column for each model. {_SOURCE}"),
]
Prompts = Annotated[list[Path] | None, typer.Option(help="File in which the prompt_id of a row is looked up.")]
Evaluation = Annotated[
    list[Path] | None,
    typer.Option(
        help="File or folder of evaluation prompts: battles on them are not used. May be given several times."
    ),
]
RefuseOverlap = Annotated[
    bool,
    typer.Option(
        "--refuse-overlap", help="Stop if there are battles on evaluation prompts, instead of leaving them out."
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        help="Use only battles between these models, and only their columns of --golden; give it twice or more. Not "
        "given: all models.",
    ),
]
Licenses = Annotated[
    list[str] | None,
    typer.Option("--license", help="Use only battles with this license; not given: all. May be given several times."),
]
StrongModel = Annotated[str, typer.Option(help="Name of the strong model in the data.")]
WeakModel = Annotated[str, typer.Option(help="Name of the weak model in the data.")]
AlsoStrong = Annotated[
    list[str] | None, typer.Option(help="Another model that counts as the strong one. May be given several times.")
]
AlsoWeak = Annotated[
    list[str] | None, typer.Option(help="Another model that counts as the weak one. May be given several times.")
]
CapPerPrompt = Annotated[int, typer.Option(min=1, metavar="N", help="The most battles of one prompt in each source.")]
MaxPrompts = Annotated[
    int | None, typer.Option(min=2, metavar="N", help="Train on about this many prompts; not given: all.")
]
BalanceSources = Annotated[bool, typer.Option(help="Give every source the same total weight.")]
SoftLabels = Annotated[
    bool, typer.Option("--soft-labels", help="Use by how much a score was higher, not only that it was.")
]
MaxTokens = Annotated[int, typer.Option(min=1, metavar="N", help="The most tokens of a prompt that are read.")]
LearningRate = Annotated[float, typer.Option(help="The largest learning rate; it falls linearly to 0.")]
WeightDecay = Annotated[float, typer.Option(help="Strength of weight decay.")]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Number of examples in each training step.")]
MaxEpochs = Annotated[int, typer.Option(min=1, metavar="N", help="The most passes over the training data.")]
Patience = Annotated[
    int, typer.Option(min=1, metavar="N", help="Stop after this many epochs without a lower held-out loss.")
]
HeldOutShare = Annotated[float, typer.Option(help="Share of the prompt groups that are held out.")]
Threads = Annotated[int, typer.Option(min=1, metavar="N", help="Number of threads that torch uses.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Directory that keeps each epoch, so that the same command can continue a run.")
]
Seed = Annotated[
    int,
    typer.Option(help="Seed of all random numbers: on one machine the same seed gives the same router, to the bit."),
]
Created = Annotated[str, typer.Option(help="Date for the record; not given: today.")]
Metrics = Annotated[Path | None, typer.Option(help="File to which the metrics are also written, as JSON.")]
RequireBetter = Annotated[
    str | None,
    typer.Option(
        metavar="constant|length",
        help="Exit with status 3 unless held-out battles show that the router is better than a constant; with "
        "`length`, than prompt length too. The router is written all the same.",
    ),
]
_NOT_BETTER: Final = 3
# What --require-better may be: the parts of the verdict that must be "better", and what the message calls them.
_NEEDED: Final = {"constant": ("against_constant",), "length": ("against_constant", "against_length")}
_BETTER_THAN: Final = {"constant": "a constant", "length": "a constant and prompt length"}

STRONG_MODEL = "gpt-4-1106-preview"
WEAK_MODEL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def sources_of(
    battles: list[Path] | None,
    golden: list[Path] | None,
    prompts: list[Path] | None,
    licenses: list[str] | None,
    evaluation: list[Path] | None,
    refuse_overlap: bool,
    *,
    strict: bool,
    models: list[str] | None = None,
) -> SourceArguments:
    """Return the arguments that name the data. Raises InvalidArgumentError for an option that would do nothing."""
    check_used(("--license", licenses, "--battles", battles))
    check_used(("--refuse-overlap", refuse_overlap, "--evaluation", evaluation))
    return {
        "battles": battles or [],
        "golden": golden or [],
        "prompts": prompts or [],
        "licenses": licenses or None,
        "evaluation": evaluation or [],
        "refuse_overlap": refuse_overlap,
        "models": models or None,
        "left_out": left_out_of(strict=strict),
    }


def say_what_was_left_out(sources: SourceArguments) -> None:
    """Say on standard error which rows could not be read, and which columns of golden labels were no models'."""
    if (left_out := sources.get("left_out")) is not None:
        say_left_out(left_out)


def _held_out_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics on held-out battles, by the names to print."""
    if "held_out" in metrics:  # of an ensemble and of sw_ranking
        return {f"held_out_{name}": value for name, value in metrics["held_out"].items()}
    if "epochs" not in metrics:  # of gap regression, which has them among its metrics
        return {}
    best = metrics["epochs"][metrics["best_epoch"] - 1]
    return {name: value for name, value in best.items() if name.startswith("held_out")}


def today() -> str:
    """Return today's date (UTC) in the form of the record."""
    return datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()


def show_metrics(title: str, metrics: dict[str, Any]) -> None:
    """Print the metrics, and how many rows and battles of each source were used."""
    say(title)
    for key, value in metrics.items():
        if isinstance(value, (int, float, str)):
            shown = f"{value:.6g}" if isinstance(value, float) else value
            say(f"  {key.replace('_', ' ')}: {shown}")
    for name, counts in metrics["data"].items():
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in counts["left_out"].items())
        say(f"  {name}: {counts['battles']:,} battles of {counts['rows']:,} rows; left out: {left_out or 'none'}")
    if "evaluation" in metrics:
        say(f"  left out for evaluation prompts: {metrics['evaluation']['battles_left_out']:,} battles")


def check_metrics(path: Path | None, *, force: bool) -> None:
    """Refuse a place for the metrics before the training starts.

    Raises:
        DataError: They cannot be written there.
        OutputExistsError: A file stands there, and force is false.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}, where the metrics should go, is no directory")
    if path.is_dir():
        raise DataError(f"{path}, where the metrics should go, is a directory: name a file")
    check_vacant_outputs(path, force=force)


def check_required(require_better: str | None) -> None:
    """Refuse what --require-better does not know. Raises InvalidArgumentError."""
    if require_better is not None and require_better not in _NEEDED:
        raise InvalidArgumentError(f"--require-better is {' or '.join(_NEEDED)}, found {require_better!r}")


def check_used(*options: tuple[str, object, str, object]) -> None:
    """Raise InvalidArgumentError for an option that does nothing without another one.

    Each entry: the option, its value, the option that it needs, and the value of that.
    """
    for option, value, needed, found in options:
        if value and not found:
            raise InvalidArgumentError(f"{option} does nothing without {needed}")


def write_metrics(path: Path | None, metrics: dict[str, Any]) -> None:
    """Write metrics as JSON if a path is given. Raises DataError where the file cannot be written."""
    if path is None:
        return

    try:
        write_json(path, metrics)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); the router itself is saved") from error


@contextmanager
def training_bar(checkpoint: Path | None = None, *, is_resumable: bool = True) -> Iterator[OnProgress]:
    """Yield a function that shows a training's progress. After ^C, say how to continue."""
    with progress_bar("reading") as move:
        try:
            yield lambda at: move(at.name, at.done, at.total)
        except KeyboardInterrupt:
            if is_resumable:
                advice = (
                    "nothing was kept; --checkpoint DIR would keep each epoch"
                    if checkpoint is None
                    else f"{checkpoint} holds each finished epoch: give the same command again to continue"
                )
                tell(f"interrupted; {advice}")
            raise


def report(
    metrics: Path | None,
    found: dict[str, Any],
    kind: str,
    out: Path,
    pair: ModelPair,
    *,
    shown: dict[str, Any] | None = None,
    require_better: str | None = None,
) -> None:
    """Write the metrics if a path is given, print the main ones and the verdict, and exit with 3 if it is not enough.

    `shown` is printed in place of the metrics, where it is given.

    Without --require-better the exit status is 0 whatever the verdict: the router was made as asked, and a small
    held-out part often cannot tell.
    """
    write_metrics(metrics, found)
    title = f"{out}: {kind} router of {pair.strong} against {pair.weak}"
    show_metrics(title, {**(shown or found), **_held_out_of(found), "digest": found["digest"]})
    verdict = found["verdict"]
    say(verdict["line"])
    if require_better is not None and any(verdict[name] != "better" for name in _NEEDED[require_better]):
        tell(
            f"not shown to be better than {_BETTER_THAN[require_better]}, as --require-better {require_better} asks; "
            f"{out} is written"
        )
        raise typer.Exit(_NOT_BETTER)
