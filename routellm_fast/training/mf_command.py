"""From data files to the directory of an `mf` router: what `routellm-fast train mf` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from routellm_fast import data
from routellm_fast.calibration.probability import sigmoid
from routellm_fast.data.battles import Battles
from routellm_fast.data.names import check_known
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training import gap_regression, matrix_factorization
from routellm_fast.training.command import Job, JobArguments, calibration_rows
from routellm_fast.training.configs import GapRegressionConfig, MatrixFactorizationConfig
from routellm_fast.training.ensemble import train_ensemble
from routellm_fast.training.held_out import held_out_battles
from routellm_fast.training.loading import load
from routellm_fast.training.matrix_factorization import TrainedMatrixFactorization
from routellm_fast.training.progress import OnProgress
from routellm_fast.training.verdict import Verdict, judged

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train_mf(
    *,
    embedder: Embedder,
    config: GapRegressionConfig | MatrixFactorizationConfig | None = None,
    cap_per_prompt: int | None = 8,
    balance_sources: bool = True,
    other_pairs_weight: float = 1.0,
    min_prompt_chars: int = 0,
    keep_ties: bool = False,
    soft_labels: bool = False,
    centre_sources: bool = False,
    refit: bool = False,
    ensemble: int = 1,
    on_progress: OnProgress | None = None,
    **arguments: Unpack[JobArguments],
) -> dict[str, Any]:
    """Train an mf router on files and write its directory, with a model card.

    There are two methods. Gap regression learns in closed form which prompts need the strong model; it made the router
    that ships, needs numpy only, and an embedder with the surface features `constant` and `log_tokens`. Gradient
    descent is RouteLLM's own, in epochs with torch, and takes any embedder.

    Args:
        embedder: Embeds the prompts; it becomes part of the router.
        config: Its class says by which method to train. None: gap regression, unless the embedder lacks a surface
            feature or one of the options of gradient descent is given; then gradient descent with RouteLLM's settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        balance_sources: Let every source weigh the same.
        other_pairs_weight: Weight of all battles between other models, where those of the scoring pair weigh 1.
        min_prompt_chars: Leave out battles on prompts that are shorter, space around them not counted.
        keep_ties: Option of gradient descent, as all that follow: let a tie be half a win for each. Gap regression
            always does, and takes from golden labels by how much a score was higher.
        soft_labels: Let golden labels say by how much a score was higher. The largest difference in a source makes a
            whole win.
        centre_sources: Shift targets so that every source has the same mean for a pair of models (see data.centred).
        refit: After the epochs were chosen, train on all battles, those held out too.
        ensemble: Train so many, with seeds one after the other, and fold them into one.
        on_progress: Called as prompts are embedded and after each epoch.
        **arguments: From which data to which directory; see command.JobArguments. A checkpoint is an option of gradient
            descent too. Ties of battles are dropped there, as RouteLLM does, unless keep_ties; those of golden labels
            count as half a win for each (see data.pairs).

    Returns:
        The metrics; see training.command. `method` is "gap_regression" or "gradient_descent".

    Raises:
        DataError: A source is missing, damaged or empty; the text names file and line. Or the battles do not say which
            prompts need the strong model, or the router could not tell prompts apart.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        InvalidArgumentError: An argument breaks its rule, or does nothing with the config's method; or see the `train`
            of `gap_regression` and `matrix_factorization`.
        CheckpointMismatchError: The checkpoint is of other data or settings.
        OutputExistsError: Something stands at `out`, and force is false.
        ArtifactWriteError: The directory could not be written.
        MissingExtraError: torch, or what a source needs, is not installed.
    """
    if not 0.0 < other_pairs_weight < math.inf:
        raise InvalidArgumentError(f"other_pairs_weight must be above 0 and finite, found {other_pairs_weight}")
    if ensemble < 1:
        raise InvalidArgumentError(f"an ensemble has at least 1 member, found {ensemble}")
    of_descent = {
        "keep_ties": keep_ties,
        "soft_labels": soft_labels,
        "centre_sources": centre_sources,
        "refit": refit,
        "ensemble": ensemble > 1,
        "checkpoint": arguments.get("checkpoint") is not None,
    }
    given_options = [name for name, is_given in of_descent.items() if is_given]
    if config is None:
        by_gaps = not given_options and gap_regression.can_embed(embedder)
        config = GapRegressionConfig() if by_gaps else MatrixFactorizationConfig()
    is_regression = isinstance(config, GapRegressionConfig)
    if is_regression and given_options:
        raise InvalidArgumentError(
            f"{', '.join(given_options)} does nothing in gap regression, which has no epochs and always counts ties "
            "and differences of scores: leave it out, or train by gradient descent"
        )
    job = Job.of("mf", **arguments)
    scoring, given = job.scoring_pair, arguments.get("scoring_pair")
    loaded = load(
        job.sources,
        scoring_pair=scoring,
        cap_per_prompt=cap_per_prompt,
        seed=config.seed,
        keep_ties=keep_ties or is_regression,
        soft_labels=soft_labels or is_regression,
        min_prompt_chars=min_prompt_chars,
    )
    rows = loaded.battles
    check_known(scoring, data.models_of(rows))
    if all(row.target == 0.5 for row in rows):
        raise DataError(
            f"all {len(rows):,} battles are ties: they say nothing about which prompts need the strong model"
        )
    if centre_sources:
        rows = data.centred(rows)
    if balance_sources:
        rows = weighed(rows, scoring, other_pairs_weight)
    arrays = data.to_arrays(rows)
    trained: TrainedMatrixFactorization
    if isinstance(config, GapRegressionConfig):
        trained = gap_regression.train_on_battles(arrays, scoring, embedder, config, on_progress=on_progress)
    else:
        settings: dict[str, Any] = {"refit": refit, "checkpoint": job.checkpoint, "on_progress": on_progress}
        if ensemble > 1:
            trained = train_ensemble(arrays, embedder, config, members=ensemble, **settings)
        else:
            trained = matrix_factorization.train(arrays, embedder, config, **settings)
    options = {
        "cap_per_prompt": cap_per_prompt,
        "balance_sources": balance_sources,
        "other_pairs_weight": other_pairs_weight,
    }
    if min_prompt_chars:
        options |= {"min_prompt_chars": min_prompt_chars}
    if not is_regression:
        options |= {"keep_ties": keep_ties, "soft_labels": soft_labels, "centre_sources": centre_sources}
    found = {
        "method": "gap_regression" if is_regression else "gradient_descent",
        **{name: value for name, value in trained.metrics.items() if name != "trainer"},
        "verdict": _verdict(arrays, trained, scoring, config).to_json(),
    }
    metrics = job.metrics(found, options, loaded)
    # The router keeps the names that were given, unless the data know the pair by others.
    router = trained.router(
        **job.common(metrics, embedder=embedder.name),
        scoring_pair=given if scoring == (given or job.model_pair) else scoring,
        embedder=embedder,
    )
    out = data.held_out(arrays.groups, config.held_out_share, seed=config.seed)
    calibrated_on, dataset = calibration_rows(np.zeros_like(out) if refit else out)
    win_rates = router.win_rates([arrays.prompts[row] for row in calibrated_on.tolist()])
    digest = job.save(router, win_rates, dataset=dataset)
    return {**metrics, "digest": digest}


def weighed(rows: Sequence[data.Battle], pair: ModelPair, other_pairs_weight: float = 1.0) -> list[data.Battle]:
    """Return the battles with new weights: those of the pair weigh 1 together, all others other_pairs_weight.

    Within both, every source weighs the same.
    """
    own = [row for row in rows if {row.model_a, row.model_b} == set(pair)]
    other = [row for row in rows if {row.model_a, row.model_b} != set(pair)]
    return [*data.balanced(own, 1.0), *data.balanced(other, other_pairs_weight)]


def _verdict(
    battles: Battles,
    trained: TrainedMatrixFactorization,
    pair: ModelPair,
    config: GapRegressionConfig | MatrixFactorizationConfig,
) -> Verdict:
    """Hold the router, as it was before a refit, against a constant and prompt length on held-out pair battles."""
    of_pair, strong_share = battles.of_pair(pair)
    out = held_out_battles(battles, config.held_out_share, seed=config.seed)
    strong_is_a = battles.model_a == (battles.models.index(pair.strong) if pair.strong in battles.models else -1)
    logits = trained.logits.astype(np.float64)
    win_rates = np.full(len(battles.prompts), np.nan)
    own = np.where(strong_is_a, logits, -logits)[of_pair]
    win_rates[battles.prompt[of_pair]] = sigmoid(own)
    return judged(battles, strong_share, of_pair & out, win_rates, seen=of_pair & ~out, seed=config.seed)
