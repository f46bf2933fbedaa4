"""`routellm-fast train`."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from routellm_fast.decision import ModelPair
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import DataError
from routellm_fast.routers.loading import SHIPPED_ROUTER
from routellm_fast.training import MatrixFactorizationConfig, train_mf
from routellm_fast.training import Progress as Epoch

app = typer.Typer(help="Train a router on preference data.", no_args_is_help=True)
_DEFAULTS = MatrixFactorizationConfig()


@app.callback()
def _root() -> None:
    """Keep `mf` a command of its own while it is the only one."""


@app.command("mf")
def mf(
    out: Path = typer.Option(..., help="Router directory to write."),
    battles: list[Path] | None = typer.Option(
        None, help="File of battles: prompt or prompt_id, model_a, model_b, winner. May be given several times."
    ),
    golden: list[Path] | None = typer.Option(
        None, help="File of golden labels: a prompt and one score column a model. May be given several times."
    ),
    prompts: list[Path] | None = typer.Option(None, help="File in which prompt_id is looked up."),
    licenses: list[str] | None = typer.Option(None, "--license", help="Use only battles of this license; none: all."),
    embedder: Path = typer.Option(SHIPPED_ROUTER, help="Embedder or model2vec directory; none: the one that ships."),
    strong_model: str = typer.Option("gpt-4-1106-preview", help="Strong model of the pair, as the data name it."),
    weak_model: str = typer.Option("mistralai/Mixtral-8x7B-Instruct-v0.1", help="Weak model of the pair."),
    cap_per_prompt: int = typer.Option(8, min=1, help="At most this many battles a prompt in each source."),
    balance_sources: bool = typer.Option(True, help="Let every source weigh the same."),
    other_pairs_weight: float = typer.Option(1.0, help="Weight of battles of all other pairs; the pair's own weigh 1."),
    d: int = typer.Option(_DEFAULTS.d, min=1, help="Length of a model vector."),
    learning_rate: float = typer.Option(_DEFAULTS.learning_rate),
    weight_decay: float = typer.Option(_DEFAULTS.weight_decay),
    batch_size: int = typer.Option(_DEFAULTS.batch_size, min=1),
    max_epochs: int = typer.Option(_DEFAULTS.max_epochs, min=1),
    patience: int = typer.Option(_DEFAULTS.patience, min=1, help="Epochs without a lower held-out loss."),
    held_out_share: float = typer.Option(_DEFAULTS.held_out_share, help="Share of prompt groups not trained on."),
    noise: float = typer.Option(_DEFAULTS.noise, help="Noise on token dimensions while training."),
    seed: int = typer.Option(_DEFAULTS.seed, help="Same seed, same router, to the bit on one machine."),
    created: str = typer.Option("", help="Date for the record; none: today."),
    metrics: Path | None = typer.Option(None, help="Also write the metrics here, as JSON."),
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
    if metrics is not None and not metrics.parent.is_dir():
        message = f"{metrics.parent}, where the metrics should go, is no directory"
        raise DataError(message)
    with _progress_bar(max_epochs) as on_progress:
        found = train_mf(
            battles=battles or [],
            golden=golden or [],
            prompts=prompts or [],
            licenses=licenses or None,
            embedder=StaticEmbedder.load(embedder),
            model_pair=ModelPair(strong_model, weak_model),
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            balance_sources=balance_sources,
            other_pairs_weight=other_pairs_weight,
            created=created or datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
            on_progress=on_progress,
        )
    if metrics is not None:
        _write_metrics(metrics, found)
    typer.echo(f"{out}: mf router of {strong_model} against {weak_model}")
    for key, value in found.items():
        if isinstance(value, (int, float, str)):
            shown = f"{value:.6g}" if isinstance(value, float) else value
            typer.echo(f"  {key.replace('_', ' ')}: {shown}")


def _write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"{path} cannot be written ({error.strerror}); the router itself is saved"
        raise DataError(message) from error


@contextmanager
def _progress_bar(max_epochs: int) -> Iterator[Callable[[Epoch], None] | None]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("training", total=max_epochs)

        def show(epoch: Epoch) -> None:
            progress.update(
                task, completed=epoch.epoch, description=f"epoch {epoch.epoch}, held-out loss {epoch.held_out_loss:.4f}"
            )

        yield show
