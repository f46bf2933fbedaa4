"""Transfer: a router, unchanged, on pairs of models that it was not trained on, as in section 5 of RouteLLM's paper.

Its win rates stay those of its own pair; what changes is who answers. Only an order of prompts that holds for another
pair too gains anything there.

>>> from routellm_fast.data import read_golden  # doctest: +SKIP
>>> rows = transfer_table(router, labelled_of_held_out_groups, [ModelPair("large", "small")])  # doctest: +SKIP
>>> print(transfer_markdown(rows))  # doctest: +SKIP

The rows must be of prompt groups that the router was not trained on (`routellm_fast.data.held_out` says which).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.data.golden import Labelled
from routellm_fast.decision import ModelPair
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.evaluation.bootstrap import bootstrap, interval, random_runs
from routellm_fast.evaluation.datasets import Benchmark
from routellm_fast.evaluation.metrics import levels_of, router_metrics
from routellm_fast.evaluation.text_table import TextTable
from routellm_fast.evaluation.verdict import APGR_TITLE, compared, percent
from routellm_fast.evaluation.win_rates import Scorer
from routellm_fast.interval import Interval
from routellm_fast.texts import word_counts

MIN_GAP: Final = 0.05
MIN_PROMPTS: Final = 200


@dataclass(frozen=True, slots=True)
class TransferRow:
    """The router on one pair of one table. Intervals are 95 %, of a bootstrap over prompts.

    Attributes:
        table: Name of the table.
        strong_model: Name of the strong model.
        weak_model: Name of the weak model.
        prompts: Number of prompts that were routed: those on which both models were run.
        dropped: Number of prompts left out because one of the models was not run on them.
        strong_quality: Mean score of the strong model alone.
        weak_quality: Mean score of the weak model alone.
        apgr: APGR as RouteLLM's code takes it; 0.5 is chance. It divides by the gap of the two qualities.
        apgr_paper: APGR as the paper defines it.
        cpt50: Strong share, in [0, 1], for half of the gap.
        cpt80: The same for 80 % of the gap.
        length_apgr: APGR of routing by the number of words.
        random_apgr: APGR of random routing; its interval is over draws of win rates.
        over_length: apgr - length_apgr, within each resample.
    """

    table: str
    strong_model: str
    weak_model: str
    prompts: int
    dropped: int
    strong_quality: float
    weak_quality: float
    apgr: Interval
    apgr_paper: Interval
    cpt50: Interval
    cpt80: Interval
    length_apgr: Interval
    random_apgr: Interval
    over_length: Interval

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TransferSummary:
    """The router over all eligible pairs of one table. The pairs share prompts and models: they are no sample.

    Attributes:
        table: Name of the table.
        pairs: Number of pairs.
        mean_apgr: Mean over the pairs of APGR as RouteLLM's code takes it.
        mean_length_apgr: The same mean for routing by prompt length.
        above_chance: Share of pairs with an APGR above 0.5.
        above_length: Share of pairs with an APGR above that of prompt length.
    """

    table: str
    pairs: int
    mean_apgr: float
    mean_length_apgr: float
    above_chance: float
    above_length: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able object."""
        return asdict(self)


def eligible_pairs(
    labelled: Sequence[Labelled], *, min_gap: float = MIN_GAP, min_prompts: int = MIN_PROMPTS
) -> list[ModelPair]:
    """Return the pairs on which APGR says something, whatever it says: strong first, by name.

    Args:
        labelled: Rows of one table.
        min_gap: By how much the strong model must score better on average, above 0: APGR divides by it.
        min_prompts: On how many prompts both must have been run.

    Raises:
        InvalidArgumentError: min_gap is not above 0.
    """
    if not min_gap > 0.0:
        raise InvalidArgumentError(f"min_gap must be above 0, since APGR divides by the gap; found {min_gap}")
    names = sorted({name for row in labelled for name in row.scores})
    scores = np.array([[row.scores.get(name, np.nan) for name in names] for row in labelled])
    pairs = []
    for i, j in itertools.combinations(range(len(names)), 2):
        gaps = scores[:, i] - scores[:, j]
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps) >= min_prompts and abs(gaps.mean()) >= min_gap:
            pairs.append(ModelPair(names[i], names[j]) if gaps.mean() > 0 else ModelPair(names[j], names[i]))
    return sorted(pairs)


def transfer_table(
    router: Scorer,
    labelled: Sequence[Labelled],
    pairs: Iterable[ModelPair],
    *,
    table: str = "",
    min_gap: float = MIN_GAP,
    min_prompts: int = MIN_PROMPTS,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[TransferRow, ...]:
    """Evaluate a router on other pairs, those with too small a gap or too few prompts left out.

    Args:
        router: Anything with win_rates.
        labelled: Rows of prompt groups that the router was not trained on, of one table.
        pairs: Strong and weak model by the table's names, chosen before the results are known. `eligible_pairs` gives
            all; a pair that is not eligible is left out, for what it would show is noise.
        table: Name of the table, for the record.
        min_gap: See eligible_pairs.
        min_prompts: See eligible_pairs.
        resamples: Number of bootstrap resamples, at least 1.
        seed: Seed of the bootstrap and of random routing.

    Raises:
        DataError: No row has a score of a model.
        InvalidArgumentError: See eligible_pairs and bootstrap.
    """
    eligible = set(eligible_pairs(labelled, min_gap=min_gap, min_prompts=min_prompts))
    asked = _known(pairs, labelled)
    win_rates = router.win_rates([row.prompt for row in labelled])
    rows = []
    for pair in asked:
        if pair not in eligible:
            continue
        benchmark, kept = _benchmark(table, labelled, pair)
        scores: dict[str, NDArray[Any]] = {"router": win_rates[kept], "length": word_counts(benchmark.prompts)}
        values = {name: levels_of(found, benchmark).values(benchmark.name) for name, found in scores.items()}
        draws = bootstrap(scores, benchmark, resamples=resamples, seed=seed)
        chance = random_runs(benchmark, seed=seed)["apgr_routellm"]
        found = {metric: interval(value, draws["router"][metric]) for metric, value in values["router"].items()}
        apgr, length_apgr = (values[name]["apgr_routellm"] for name in scores)
        apgr_draws, length_draws = (draws[name]["apgr_routellm"] for name in scores)
        rows.append(
            TransferRow(
                table=table,
                strong_model=pair.strong,
                weak_model=pair.weak,
                prompts=len(kept),
                dropped=len(labelled) - len(kept),
                strong_quality=float(benchmark.strong_quality.mean()),
                weak_quality=float(benchmark.weak_quality.mean()),
                apgr=found["apgr_routellm"],
                apgr_paper=found["apgr_paper"],
                cpt50=found["cpt50"],
                cpt80=found["cpt80"],
                length_apgr=interval(length_apgr, length_draws),
                random_apgr=interval(float(chance.mean()), chance),
                over_length=interval(apgr - length_apgr, apgr_draws - length_draws),
            )
        )
    return tuple(rows)


def transfer_summary(
    router: Scorer, labelled: Sequence[Labelled], pairs: Sequence[ModelPair] | None = None, *, table: str = ""
) -> TransferSummary:
    """Return what a router does over all pairs of a table that are eligible, or over those given.

    Raises:
        DataError: There is no pair.
    """
    pairs = eligible_pairs(labelled) if pairs is None else _known(pairs, labelled)
    if not pairs:
        raise DataError(f"{table or 'the table'} has no pair of models with a gap and prompts enough")
    win_rates = router.win_rates([row.prompt for row in labelled])
    found = []
    for pair in pairs:
        benchmark, kept = _benchmark(table, labelled, pair)
        own, length = win_rates[kept], word_counts(benchmark.prompts)
        found.append([router_metrics("", scores, benchmark).apgr for scores in (own, length)])
    own, length = np.array(found).T
    return TransferSummary(
        table=table,
        pairs=len(pairs),
        mean_apgr=float(own.mean()),
        mean_length_apgr=float(length.mean()),
        above_chance=float((own > 0.5).mean()),
        above_length=float((own > length).mean()),
    )


def transfer_markdown(rows: Iterable[TransferRow]) -> str:
    """Return `transfer_rows` as Markdown."""
    return transfer_rows(rows).markdown()


def transfer_rows(rows: Iterable[TransferRow]) -> TextTable:
    """Return a table of pairs, in the order given. APGR is as RouteLLM's code takes it."""
    heads = ("strong / weak", "table", "prompts", "quality")
    figures = (APGR_TITLE, "prompt length", "CPT(50 %)", "CPT(80 %)", "against prompt length")
    cells = tuple(
        (
            f"{row.strong_model} / {row.weak_model}",
            row.table,
            f"{row.prompts:,}",
            f"{row.strong_quality:.3f} / {row.weak_quality:.3f}",
            f"{row.apgr.value:.3f} [{row.apgr.low:.3f}, {row.apgr.high:.3f}]",
            f"{row.length_apgr.value:.3f}",
            percent(row.cpt50.value),
            percent(row.cpt80.value),
            compared(row.over_length),
        )
        for row in rows
    )
    return TextTable(heads + figures, cells, frozenset({*heads[:2], figures[-1]}))


def _known(pairs: Iterable[ModelPair], labelled: Sequence[Labelled]) -> list[ModelPair]:
    """Return the pairs as such. Raises DataError where a model is in no row."""
    asked = [ModelPair(*pair) for pair in pairs]
    known = {name for row in labelled for name in row.scores}
    missing = sorted({name for pair in asked for name in pair if name not in known})
    if missing:
        raise DataError(
            f"no row has a score of {', '.join(missing)}; there are {', '.join(sorted(known)) or 'no rows'}"
        )
    return asked


def _benchmark(table: str, labelled: Sequence[Labelled], pair: ModelPair) -> tuple[Benchmark, NDArray[np.intp]]:
    """Return the rows on which both models were run, and which these are."""
    kept = np.array(
        [i for i, row in enumerate(labelled) if pair.strong in row.scores and pair.weak in row.scores], dtype=np.intp
    )
    if not len(kept):
        raise DataError(f"no row has scores of both {pair.strong!r} and {pair.weak!r}")
    rows = [labelled[i] for i in kept]
    strong, weak = (np.array([row.scores[name] for row in rows]) for name in pair)
    highest = float(max(strong.max(), weak.max()))
    return Benchmark(table, tuple(row.prompt for row in rows), strong, weak, highest, 0, pair=pair), kept
