"""From data files to a router directory: what `routellm-fast train mf` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from routellm_fast.calibration import Calibration
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.training import data
from routellm_fast.training.matrix_factorization import MatrixFactorizationConfig, Progress, train


def train_mf(
    *,
    battles: Sequence[Path] = (),
    golden: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    licenses: Collection[str] | None = None,
    embedder: Embedder,
    model_pair: ModelPair,
    scoring_pair: ModelPair | None = None,
    out: Path,
    config: MatrixFactorizationConfig | None = None,
    cap_per_prompt: int | None = 8,
    balance_sources: bool = True,
    other_pairs_weight: float = 1.0,
    created: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train an mf router on files and write its directory.

    Args:
        battles: Files of preference battles; ties are dropped, as RouteLLM does.
        golden: Files of golden labels; their ties count as half a win for each (see data.pairs).
        prompts: Files in which prompt_id is looked up.
        licenses: Use only battles whose license is one of these; None uses all. A table of golden labels has one
            license as a whole, which is for the caller to judge.
        embedder: Of the prompts; it becomes part of the router.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is computed; None is model_pair. Both must be in the data.
        out: The directory to write.
        config: None for RouteLLM's own settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        balance_sources: Let every source weigh the same.
        other_pairs_weight: Weight of all battles between other models, where those of the scoring pair weigh 1.
        created: Date for the record.
        on_progress: Called after each epoch.

    Returns:
        JSON-able metrics, with the digests of the files.

    Raises:
        DataError: A file is missing, damaged or empty; the text names file and line.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        ArtifactWriteError: The directory could not be written.
        MissingExtraError: torch is not installed.
    """
    if not battles and not golden:
        message = "give at least one file of battles or of golden labels"
        raise DataError(message)
    config = config or MatrixFactorizationConfig()
    scoring = scoring_pair or model_pair
    lookup: dict[str, tuple[str, str]] = {}
    for path in prompts:
        lookup |= data.read_prompts(path)
    if not other_pairs_weight > 0.0:
        message = f"other_pairs_weight must be above 0, found {other_pairs_weight}"
        raise InvalidArgumentError(message)
    rows: list[data.Battle] = []
    for path in battles:
        rows += data.read_battles(
            path, prompts=lookup or None, licenses=licenses, cap_per_prompt=cap_per_prompt, seed=config.seed
        )
    for path in golden:
        labelled = data.read_golden(path, prompts=lookup or None)
        rows += data.pairs(labelled, cap_per_prompt=cap_per_prompt, seed=config.seed, always=scoring)
    own = [row for row in rows if {row.model_a, row.model_b} == set(scoring)]
    other = [row for row in rows if {row.model_a, row.model_b} != set(scoring)]
    if balance_sources:
        own, other = data.balanced(own, 1.0), data.balanced(other, other_pairs_weight)
    arrays = data.to_arrays([*own, *other])
    missing = [name for name in scoring if name not in arrays.models]
    if missing:
        message = f"the data has no battle of {missing[0]!r}, only of: {', '.join(arrays.models)}"
        raise UnknownModelError(message)
    trained = train(arrays, embedder, config, on_progress=on_progress)
    metrics = {
        **trained.metrics,
        "files": {path.name: data.file_digest(path) for path in sorted([*battles, *golden, *prompts])},
        "licenses": None if licenses is None else sorted(licenses),
    }
    common: dict[str, Any] = {
        "model_pair": model_pair,
        "scoring_pair": scoring_pair,
        "embedder": embedder,
        "provenance": {"created": created, "training": metrics},
    }
    win_rates = trained.router(**common).win_rates(arrays.prompts)
    calibration = Calibration.from_win_rates(win_rates, dataset="the prompts trained on")
    trained.router(**common, calibration=calibration).save(out)
    return metrics
