"""From data files to a router directory: what `routellm-fast train` does.

The commands return metrics, JSON-able, which the router keeps in its provenance as `training`:

* `battles`, `prompts`, `prompt_groups`, `models`: counts of what was trained on; mf's battles are those trained on and
  those held out.
* `config`: the trainer's settings; `options`: those of the command besides.
* `epochs`: of mf, losses (mean log losses in nats) and accuracies after each epoch on both sides; `best_epoch`: the one
  that was kept, from 1; `refit`: battles and epochs of the training on all battles, where there was one. Of an ensemble
  these are in `members`, one object each.
* `held_out_by_source`: of mf, count, loss and accuracy on the held-out battles of each source. `held_out`: of an
  ensemble, loss and accuracy on all of them; of sw_ranking, what a router of the other prompts reached.
* `files`: digests by name; `licenses`: the filter or null; `data`: by source, `rows` read, `battles` kept, `left_out`
  by reason, `licenses` and `judges` that it states; `evaluation`: where evaluation sets were given, their files, how
  many prompts these have, and how many battles were left out for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from routellm_fast import data
from routellm_fast.calibration import Calibration
from routellm_fast.data import routellm_datasets
from routellm_fast.data.names import check_known
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training import matrix_factorization, similarity_weighted
from routellm_fast.training.ensemble import train_ensemble
from routellm_fast.training.loading import Sources, load
from routellm_fast.training.matrix_factorization import MatrixFactorizationConfig
from routellm_fast.training.model_card import model_card
from routellm_fast.training.preparation import by_known_names, check_place
from routellm_fast.training.progress import Progress
from routellm_fast.training.similarity_weighted import SimilarityWeightedConfig, Stage


def train_mf(
    *,
    battles: Sequence[Path] = (),
    golden: Sequence[Path] = (),
    prompts: Sequence[Path] = (),
    licenses: Collection[str] | None = None,
    evaluation: Sequence[Path] = (),
    refuse_overlap: bool = False,
    embedder: Embedder,
    model_pair: ModelPair,
    scoring_pair: ModelPair | None = None,
    out: Path,
    config: MatrixFactorizationConfig | None = None,
    cap_per_prompt: int | None = 8,
    balance_sources: bool = True,
    other_pairs_weight: float = 1.0,
    keep_ties: bool = False,
    soft_labels: bool = False,
    centre_sources: bool = False,
    refit: bool = False,
    ensemble: int = 1,
    checkpoint: Path | None = None,
    created: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train an mf router on files and write its directory, with a model card.

    Args:
        battles: Sources of preference battles; ties are dropped, as RouteLLM does, unless keep_ties.
        golden: Sources of golden labels; their ties count as half a win for each (see data.pairs).
        prompts: Sources in which prompt_id is looked up.
        licenses: Use only battles whose license is one of these; None uses all. See loading.Sources.
        evaluation: Evaluation sets whose prompts are not to be trained on. See loading.Sources.
        refuse_overlap: Raise where there are such prompts, instead of leaving them out.
        embedder: Of the prompts; it becomes part of the router.
        model_pair: Where prompts are sent.
        scoring_pair: The pair whose win rate is computed; None is model_pair. Both must be in the data, by any name
            that `data.names` knows.
        out: The directory to write.
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
        checkpoint: A directory in which the state is kept after each epoch, and from which an interrupted training of
            the same data and settings goes on.
        created: Date for the record.
        on_progress: Called after each epoch.

    Returns:
        The metrics; see the module.

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
    check_place(out, checkpoint)
    scoring = by_known_names(scoring_pair or model_pair)
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
        cap_per_prompt=cap_per_prompt,
        seed=config.seed,
        keep_ties=keep_ties,
        soft_labels=soft_labels,
    )
    rows = loaded.battles
    check_known(scoring, {name for row in rows for name in (row.model_a, row.model_b)})
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
    settings: dict[str, Any] = {"refit": refit, "checkpoint": checkpoint, "on_progress": on_progress}
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
    metrics = {**trained.metrics, "options": options, **loaded.record(sources)}
    common: dict[str, Any] = {
        "model_pair": model_pair,
        "scoring_pair": scoring_pair if scoring == (scoring_pair or model_pair) else scoring,
        "embedder": embedder,
        "provenance": {"created": created, "training": metrics},
        "model_card": model_card(
            "mf", metrics, model_pair=model_pair, scoring_pair=scoring, embedder=embedder.name, created=created
        ),
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
    evaluation: Sequence[Path] = (),
    refuse_overlap: bool = False,
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
    """Build an sw_ranking router of files and write its directory, with a model card.

    Args:
        battles: Sources of preference battles, whose ties count, and datasets of RouteLLM in Parquet (see
            routellm_datasets), which are taken whole: no cap. Weights do not count.
        golden: Sources of golden labels; see train_mf.
        prompts: Sources in which prompt_id is looked up.
        embeddings: Datasets of embeddings: together one row for each battle of RouteLLM's datasets, which must then be
            all there is. Without them the embedder embeds each distinct prompt once.
        licenses: Use only battles whose license is one of these; None uses all. See train_mf.
        evaluation: Evaluation sets whose prompts are not to be trained on. See train_mf.
        refuse_overlap: See train_mf.
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
        The metrics (see the module); the tiers, lists of models, the best first; and those of the scoring pair: in one
        and the same, every win rate is a half.

    Raises:
        DataError: A file is missing, damaged or empty, or embeddings are not those of the battles; the text names file
            and line or row.
        UnknownModelError: The data has no battle of a model of the scoring pair.
        ArtifactWriteError: The directory could not be written.
        MissingExtraError: pyarrow is needed and not installed.
        RouteLLMError: See SimilarityWeightedRouter.build.
    """
    config = config or SimilarityWeightedConfig()
    check_place(out)
    scoring = by_known_names(scoring_pair or model_pair)
    datasets = [path for path in battles if routellm_datasets.is_dataset(path)]
    tables = [path for path in battles if path not in datasets]
    if embeddings and (tables or golden or not datasets):
        raise InvalidArgumentError(
            f"embeddings belong to the battles of RouteLLM's datasets, row by row; found {len(datasets)} of these, "
            f"{len(tables)} other files of battles and {len(golden)} of golden labels. Give those without embeddings."
        )
    if datasets and licenses is not None:
        raise DataError(f"{datasets[0]} states no licenses: leave the filter out, or that dataset")
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
        loaded.battles, embedder, scoring, config, embeddings=given, on_progress=on_progress
    )
    if on_progress is not None:
        on_progress(Stage("building", 0, 1))
    options = {"cap_per_prompt": cap_per_prompt, "min_prompt_chars": min_prompt_chars}
    metrics = {**trained.metrics, "options": options, **loaded.record(sources, embeddings)}
    card = model_card(
        "sw_ranking",
        metrics,
        model_pair=model_pair,
        scoring_pair=scoring,
        embedder="none" if embedder is None else embedder.name,
        created=created,
    )
    router = trained.router(
        embedder=embedder, model_pair=model_pair, provenance={"created": created, "training": metrics}, model_card=card
    )
    router.save(out)
    names = list(router.tiers)
    return {
        **metrics,
        "tiers": [[name for name in names if router.tiers[name] == tier] for tier in range(router.num_tiers)],
        "pair_tiers": [router.tiers[name] for name in scoring],
    }
