"""From data files to a router directory: what `routellm-fast train` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from routellm_fast import data
from routellm_fast.calibration import Calibration
from routellm_fast.data import routellm_datasets
from routellm_fast.data.names import known_aliases
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError, UnknownModelError
from routellm_fast.training import matrix_factorization, similarity_weighted
from routellm_fast.training.matrix_factorization import MatrixFactorizationConfig, Progress
from routellm_fast.training.similarity_weighted import SimilarityWeightedConfig, Stage


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
    config = config or MatrixFactorizationConfig()
    scoring = scoring_pair or model_pair
    if not other_pairs_weight > 0.0:
        message = f"other_pairs_weight must be above 0, found {other_pairs_weight}"
        raise InvalidArgumentError(message)
    rows = _read_tables(
        battles, golden, prompts, licenses=licenses, scoring=scoring, cap_per_prompt=cap_per_prompt, seed=config.seed
    )
    own = [row for row in rows if {row.model_a, row.model_b} == set(scoring)]
    other = [row for row in rows if {row.model_a, row.model_b} != set(scoring)]
    if balance_sources:
        own, other = data.balanced(own, 1.0), data.balanced(other, other_pairs_weight)
    arrays = data.to_arrays([*own, *other])
    missing = [name for name in scoring if name not in arrays.models]
    if missing:
        message = f"the data has no battle of {missing[0]!r}, only of: {', '.join(arrays.models)}"
        raise UnknownModelError(message)
    trained = matrix_factorization.train(arrays, embedder, config, on_progress=on_progress)
    metrics = {**trained.metrics, **_record([*battles, *golden, *prompts], licenses)}
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


def train_sw_ranking(
    *,
    battles: Sequence[Path] = (),
    golden: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    embeddings: Sequence[Path] = (),
    licenses: Collection[str] | None = None,
    embedder: Embedder | None,
    model_pair: ModelPair,
    scoring_pair: ModelPair | None = None,
    out: Path,
    config: SimilarityWeightedConfig | None = None,
    cap_per_prompt: int | None = 8,
    min_prompt_chars: int = routellm_datasets.MIN_PROMPT_CHARS,
    created: str = "",
    on_progress: Callable[[Stage], None] | None = None,
) -> dict[str, Any]:
    """Build an sw_ranking router of files and write its directory.

    Args:
        battles: Files of preference battles, whose ties count, and datasets of RouteLLM (see routellm_datasets), which
            are taken whole: no cap.
        golden: Files of golden labels; see train_mf.
        prompts: Files in which prompt_id is looked up.
        embeddings: Datasets of embeddings: together one row for each battle of RouteLLM's datasets, which must then be
            all there is. Without them the embedder embeds each distinct prompt once.
        licenses: Use only battles whose license is one of these; None uses all. See train_mf.
        embedder: Becomes part of the router; None for one that scores embeddings only. Dimensions that are alike for
            all prompts drown a cosine: of a StaticEmbedder take `tokens_only()`.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is computed; None is model_pair. Both must be in the data, by any name
            that `data.names` knows.
        out: The directory to write.
        config: None for RouteLLM's own settings.
        cap_per_prompt: At most this many battles a prompt in each source; None takes all.
        min_prompt_chars: Leave out battles on prompts that are shorter, space around them not counted.
        created: Date for the record.
        on_progress: Called as the work goes on.

    Returns:
        JSON-able metrics, with the digests of the files; the tiers, lists of models, the best first; and those of the
        scoring pair: in one and the same, every win rate is a half.

    Raises:
        DataError: A file is missing, damaged or empty, or embeddings are not those of the battles; the text names file
            and line or row.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        ArtifactWriteError: The directory could not be written.
        MissingExtraError: pyarrow is needed and not installed.
        RouteLLMError: See SimilarityWeightedRouter.build.
    """
    config = config or SimilarityWeightedConfig()
    aliases = known_aliases()
    scoring = ModelPair(*(aliases.get(name, name) for name in scoring_pair or model_pair))
    datasets = [path for path in battles if routellm_datasets.is_dataset(path)]
    tables = [path for path in battles if path not in datasets]
    if embeddings and (tables or golden or not datasets):
        message = (
            f"embeddings belong to the battles of RouteLLM's datasets, row by row; found {len(datasets)} of these, "
            f"{len(tables)} other files of battles and {len(golden)} of golden labels. Give those without embeddings."
        )
        raise InvalidArgumentError(message)
    if datasets and licenses is not None:
        message = f"{datasets[0]} states no licenses: leave the filter out, or that dataset"
        raise DataError(message)
    rows: list[data.Battle] = []
    if tables or golden or not datasets:
        rows += _read_tables(
            tables,
            golden,
            prompts,
            licenses=licenses,
            drop_ties=False,
            scoring=scoring,
            cap_per_prompt=cap_per_prompt,
            seed=config.seed,
        )
        rows = [row for row in rows if len(row.prompt.strip()) >= min_prompt_chars]
    for path in datasets:
        rows += routellm_datasets.read_battles(path, min_prompt_chars=min_prompt_chars)
    given = routellm_datasets.read_embeddings(embeddings) if embeddings else None
    trained = similarity_weighted.train(rows, embedder, scoring, config, embeddings=given, on_progress=on_progress)
    if on_progress is not None:
        on_progress(Stage("building", 0, 1))
    metrics = {**trained.metrics, **_record([*battles, *golden, *prompts, *embeddings], licenses)}
    router = trained.router(
        embedder=embedder, model_pair=model_pair, provenance={"created": created, "training": metrics}
    )
    router.save(out)
    names = list(router.tiers)
    return {
        **metrics,
        "tiers": [[name for name in names if router.tiers[name] == tier] for tier in range(router.num_tiers)],
        "pair_tiers": [router.tiers[name] for name in scoring],
    }


def _read_tables(
    battles: Sequence[Path],
    golden: Sequence[Path],
    prompts: Sequence[Path],
    *,
    licenses: Collection[str] | None,
    drop_ties: bool = True,
    scoring: ModelPair,
    cap_per_prompt: int | None,
    seed: int,
) -> list[data.Battle]:
    """Return the battles of all files. See train_mf for the arguments; drop_ties is not for golden labels."""
    if not battles and not golden:
        message = "give at least one file of battles or of golden labels"
        raise DataError(message)
    lookup: dict[str, tuple[str, str]] = {}
    for path in prompts:
        lookup |= data.read_prompts(path)
    rows: list[data.Battle] = []
    for path in battles:
        rows += data.read_battles(
            path,
            prompts=lookup or None,
            licenses=licenses,
            drop_ties=drop_ties,
            cap_per_prompt=cap_per_prompt,
            seed=seed,
        )
    for path in golden:
        labelled = data.read_golden(path, prompts=lookup or None)
        rows += data.pairs(labelled, cap_per_prompt=cap_per_prompt, seed=seed, always=scoring)
    return rows


def _record(paths: Iterable[Path], licenses: Collection[str] | None) -> dict[str, Any]:
    """Return what a router keeps of where its data come from."""
    return {
        "files": {
            str(file.relative_to(path.parent)): data.file_digest(file)
            for path in sorted(paths)
            for file in routellm_datasets.dataset_files(path)
        },
        "licenses": None if licenses is None else sorted(licenses),
    }
