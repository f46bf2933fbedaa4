"""From data files to the directory of an `mf` router: what `routellm-fast train mf` does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from routellm_fast import data
from routellm_fast.data.names import check_known
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training import matrix_factorization
from routellm_fast.training.command import Job, JobArguments
from routellm_fast.training.configs import MatrixFactorizationConfig
from routellm_fast.training.ensemble import train_ensemble
from routellm_fast.training.loading import load
from routellm_fast.training.progress import OnProgress

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train_mf(
    *,
    embedder: Embedder,
    config: MatrixFactorizationConfig | None = None,
    cap_per_prompt: int | None = 8,
    balance_sources: bool = True,
    other_pairs_weight: float = 1.0,
    keep_ties: bool = False,
    soft_labels: bool = False,
    centre_sources: bool = False,
    refit: bool = False,
    ensemble: int = 1,
    on_progress: OnProgress | None = None,
    **arguments: Unpack[JobArguments],
) -> dict[str, Any]:
    """Train an mf router on files and write its directory, with a model card.

    Args:
        embedder: Embeds the prompts; it becomes part of the router.
        config: None for RouteLLM's own settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        balance_sources: Let every source weigh the same.
        other_pairs_weight: Weight of all battles between other models, where those of the scoring pair weigh 1.
        keep_ties: Let a tie be half a win for each.
        soft_labels: Let golden labels say by how much a score was higher. The largest difference in a source makes a
            whole win.
        centre_sources: Shift targets so that every source has the same mean for a pair of models (see data.centred).
        refit: After the epochs were chosen, train on all battles, those held out too.
        ensemble: Train so many, with seeds one after the other, and fold them into one.
        on_progress: Called after each epoch.
        **arguments: From which data to which directory; see command.JobArguments. Ties of battles are dropped, as
            RouteLLM does, unless keep_ties; those of golden labels count as half a win for each (see data.pairs).

    Returns:
        The metrics; see training.command.

    Raises:
        DataError: A source is missing, damaged or empty; the text names file and line. Or all battles are ties.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        InvalidArgumentError: An argument breaks its rule, or see matrix_factorization.train.
        CheckpointMismatchError: The checkpoint is of other data or settings.
        ArtifactWriteError: The directory could not be written.
        MissingExtraError: torch, or what a source needs, is not installed.
    """
    config = config or MatrixFactorizationConfig()
    if not 0.0 < other_pairs_weight < math.inf:
        raise InvalidArgumentError(f"other_pairs_weight must be above 0 and finite, found {other_pairs_weight}")
    if ensemble < 1:
        raise InvalidArgumentError(f"an ensemble has at least 1 member, found {ensemble}")
    job = Job.of("mf", **arguments)
    scoring, given = job.scoring_pair, arguments.get("scoring_pair")
    loaded = load(
        job.sources,
        scoring_pair=scoring,
        cap_per_prompt=cap_per_prompt,
        seed=config.seed,
        keep_ties=keep_ties,
        soft_labels=soft_labels,
    )
    rows = loaded.battles
    check_known(scoring, data.models_of(rows))
    if all(row.target == 0.5 for row in rows):
        raise DataError(
            f"all {len(rows):,} battles are ties: they say nothing about which prompts need the strong model"
        )
    if centre_sources:
        rows = data.centred(rows)
    own = [row for row in rows if {row.model_a, row.model_b} == set(scoring)]
    other = [row for row in rows if {row.model_a, row.model_b} != set(scoring)]
    if balance_sources:
        own, other = data.balanced(own, 1.0), data.balanced(other, other_pairs_weight)
    arrays = data.to_arrays([*own, *other])
    settings: dict[str, Any] = {"refit": refit, "checkpoint": job.checkpoint, "on_progress": on_progress}
    if ensemble > 1:
        trained = train_ensemble(arrays, embedder, config, members=ensemble, **settings)
    else:
        trained = matrix_factorization.train(arrays, embedder, config, **settings)
    options = {
        "cap_per_prompt": cap_per_prompt,
        "balance_sources": balance_sources,
        "other_pairs_weight": other_pairs_weight,
        "keep_ties": keep_ties,
        "soft_labels": soft_labels,
        "centre_sources": centre_sources,
    }
    metrics = job.metrics(trained.metrics, options, loaded)
    # The router keeps the names that were given, unless the data know the pair by others.
    router = trained.router(
        **job.common(metrics, embedder=embedder.name),
        scoring_pair=given if scoring == (given or job.model_pair) else scoring,
        embedder=embedder,
    )
    job.save(router, router.win_rates(arrays.prompts))
    return metrics
