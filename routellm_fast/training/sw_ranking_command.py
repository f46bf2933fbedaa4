"""From data files to the directory of an `sw_ranking` router: what `routellm-fast train sw_ranking` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from routellm_fast.data import routellm_datasets, to_arrays
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training import similarity_weighted
from routellm_fast.training.command import Job, JobArguments
from routellm_fast.training.configs import SimilarityWeightedConfig
from routellm_fast.training.loading import load
from routellm_fast.training.progress import OnProgress, Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack


def train_sw_ranking(
    *,
    embeddings: Sequence[Path] = (),
    embedder: Embedder | None,
    config: SimilarityWeightedConfig | None = None,
    cap_per_prompt: int | None = 8,
    min_prompt_chars: int = routellm_datasets.MIN_PROMPT_CHARS,
    on_progress: OnProgress | None = None,
    **arguments: Unpack[JobArguments],
) -> dict[str, Any]:
    """Build an sw_ranking router of files and write its directory, with a model card.

    Args:
        embeddings: Datasets of embeddings: together one row for each battle of RouteLLM's datasets, which must then be
            all there is. Without them the embedder embeds each distinct prompt once.
        embedder: Becomes part of the router; None for one that scores embeddings only. Dimensions that are alike for
            all prompts drown a cosine: of a StaticEmbedder take `tokens_only()`.
        config: None for RouteLLM's own settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        min_prompt_chars: Leave out battles on prompts that are shorter, space around them not counted.
        on_progress: Called as the work goes on.
        **arguments: From which data to which directory; see command.JobArguments. Battles may also be datasets of
            RouteLLM (see routellm_datasets) in Parquet, with embeddings also in CSV or JSON lines, which are taken
            whole: no cap. Ties count, weights do not.

    Returns:
        The metrics (see training.command); `tiers`, lists of models, the best first; and `pair_tiers`, those of the
        scoring pair, which differ.

    Raises:
        DataError: A file is missing, damaged or empty, or embeddings are not those of the battles; the text names file
            and line or row. Or the router could not tell prompts apart: see similarity_weighted.train.
        OutputExistsError: Something stands at `out`, and force is false.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        ArtifactWriteError: The directory could not be written.
        MissingExtraError: pyarrow is needed and not installed.
        RouteLLMError: See SimilarityWeightedRouter.build.
    """
    config = config or SimilarityWeightedConfig()
    job = Job.of("sw_ranking", **arguments)
    if job.checkpoint is not None:
        raise InvalidArgumentError("sw_ranking is built at once, without epochs: leave out the checkpoint")
    scoring, battles, golden = job.scoring_pair, job.sources.battles, job.sources.golden
    datasets = [path for path in battles if routellm_datasets.is_dataset(path, any_form=bool(embeddings))]
    tables = [path for path in battles if path not in datasets]
    if embeddings and (tables or golden or not datasets):
        raise InvalidArgumentError(
            f"embeddings belong to the battles of RouteLLM's datasets, row by row; found {len(datasets)} of these, "
            f"{len(tables)} other files of battles and {len(golden)} of golden labels. Give those without embeddings."
        )
    if datasets and job.sources.licenses is not None:
        raise DataError(f"{datasets[0]} states no licenses: leave the filter out, or that dataset")
    loaded = load(
        job.sources,
        scoring_pair=scoring,
        cap_per_prompt=cap_per_prompt,
        seed=config.seed,
        keep_ties=True,
        min_prompt_chars=min_prompt_chars,
        whole=datasets,
    )
    given = routellm_datasets.read_embeddings(embeddings) if embeddings else None
    if given is not None and loaded.kept is not None:
        similarity_weighted.check_rows(len(given), len(loaded.kept))
        given = given[loaded.kept]
    trained = similarity_weighted.train(
        to_arrays(loaded.battles, keep_order=True), embedder, scoring, config, embeddings=given, on_progress=on_progress
    )
    if on_progress is not None:
        on_progress(Progress("building", 0, 1))
    options = {"cap_per_prompt": cap_per_prompt, "min_prompt_chars": min_prompt_chars}
    metrics = job.metrics(trained.metrics, options, loaded, embeddings)
    name = "none" if embedder is None else embedder.name
    router = trained.router(embedder=embedder, **job.common(metrics, embedder=name))
    digest = router.save(job.out)
    names = list(router.tiers)
    return {
        **metrics,
        "digest": digest,
        "tiers": [[name for name in names if router.tiers[name] == tier] for tier in range(router.num_tiers)],
        "pair_tiers": [router.tiers[name] for name in scoring],
    }
