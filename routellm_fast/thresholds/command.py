"""From a router and a log of prompts to a calibration: what `routellm-fast calibrate` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.calibration.operating_points import OperatingPoint, Target
from routellm_fast.calibration.probability import METHODS
from routellm_fast.calibration.table import Calibration
from routellm_fast.decision import ModelPair
from routellm_fast.errors import EmbedderUnavailableError, InvalidArgumentError, UnknownModelError
from routellm_fast.prices import PairPrices
from routellm_fast.scoring import OnStep
from routellm_fast.thresholds.drift import win_rate_quantiles
from routellm_fast.thresholds.probability_fit import Outcomes, ProbabilityFit, choose, fit_probability
from routellm_fast.thresholds.search import RESAMPLES, Sample, check_needs, find_points
from routellm_fast.thresholds.token_counts import token_counts
from routellm_fast.thresholds.traffic import Traffic, score

if TYPE_CHECKING:
    from routellm_fast.data import Battle, Labelled
    from routellm_fast.routers.base import Router

# "keep" leaves what the router has, "none" drops it, "best" fits both and takes that with the lower held-out loss.
ProbabilityChoice = Literal["keep", "none", "platt", "isotonic", "best"]
PROBABILITY_CHOICES: Final = ("keep", "none", *METHODS, "best")

# Fewer than this are calibrated on, with a warning.
_FEW: Final = 100
# A strong share further away than this from the one asked for is worth a word.
_MISSED_BY: Final = 0.005


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A new calibration and how it came about.

    Attributes:
        calibration: The calibration; `router.with_calibration(calibration).save(path)` stores it.
        facts: JSON-able counts: requests, distinct and blank prompts, labelled rows; and `labelled_strong_shares`: for
            each target, by name, the share of the labelled rows at the strong model. It is the PGR of random routing
            with as many of them there.
        probability: The fit of the probability map, also where the map was refused; None where no fit was asked for.
        warnings: What the user should know, one sentence each.
    """

    calibration: Calibration
    facts: dict[str, Any]
    probability: ProbabilityFit | None
    warnings: tuple[str, ...]


def calibrate(
    router: Router,
    traffic: Traffic,
    *,
    dataset: str,
    targets: Sequence[Target] = (),
    prices: PairPrices | None = None,
    labelled: Sequence[Labelled] = (),
    battles: Sequence[Battle] = (),
    labelled_pair: ModelPair | None = None,
    probability: ProbabilityChoice = "keep",
    created: str = "",
    seed: int = 0,
    resamples: int = RESAMPLES,
    on_progress: OnStep | None = None,
) -> Calibrated:
    """Calibrate a router on a log of prompts.

    Args:
        router: The router, which is not changed.
        traffic: The log.
        dataset: Name of the prompts, for the record.
        targets: Operating points to find. Strong shares need the log alone, costs need prices too, and qualities need
            labelled rows too.
        prices: Prices of both models; None without costs.
        labelled: Rows with the scores of both models, for qualities and probabilities.
        battles: Battles of both models, for probabilities.
        labelled_pair: Names of the two models in labels and battles; None for the router's own names.
        probability: Which probability map to fit on labels and battles.
        created: Date for the record.
        seed: Draws resamples and folds: the same input and seed give the same calibration.
        resamples: Number of resamples behind each interval, >= 100.
        on_progress: Called with what is being done, the number of steps done, and their total.

    Raises:
        DataError: All win rates are equal; or labels leave nothing to judge by.
        EmbedderUnavailableError: The router scores embeddings only.
        InvalidArgumentError: A target needs what is not given.
        UnknownModelError: Labels or battles lack one of the two models.
        UnreachableTargetError: No threshold reaches a target.
    """
    if probability not in PROBABILITY_CHOICES:
        raise InvalidArgumentError(
            f"probability must be one of {', '.join(PROBABILITY_CHOICES)}, found {probability!r}"
        )
    pair = _known(labelled_pair or router.model_pair)
    rows = _labelled_rows(labelled, pair)
    outcomes = [*_outcomes_of_rows(rows, pair), *_outcomes_of_battles(battles, pair)]
    if probability in (*METHODS, "best") and not outcomes:
        raise InvalidArgumentError("a probability map needs labelled rows or battles of the two models")
    check_needs(targets, has_prices=prices is not None, has_labels=bool(rows))
    costs = _costs(router, traffic, prices)
    # Each prompt once, whatever it is needed for: a remote embedder is paid for.
    prompts = list(
        dict.fromkeys([*traffic.prompts, *(row.prompt for row in rows), *(outcome.prompt for outcome in outcomes)])
    )
    scored = score(
        router, prompts, on_progress=on_progress and (lambda done, of: on_progress("scoring prompts", done, of))
    )
    position = {prompt: index for index, prompt in enumerate(prompts)}

    def rates_of(entries: Sequence[Labelled | _Outcome]) -> FloatArray:
        return scored[[position[entry.prompt] for entry in entries]]

    win_rates = scored[: len(traffic.prompts)]
    sample = Sample(win_rates, traffic.counts, *costs)
    sample.check_divisible()
    labels = None
    if rows:
        strong, weak = (np.array([row.scores[model] for row in rows]) for model in pair)
        labels = Sample(rates_of(rows), np.ones(len(rows), dtype=np.int64), strong, weak)
    points = find_points(
        targets,
        sample,
        labels,
        seed=seed,
        resamples=resamples,
        on_progress=on_progress and (lambda done, of: on_progress("resampling", done, of)),
    )
    fit = None
    if probability in (*METHODS, "best"):
        fit = _fit(rates_of(outcomes), outcomes, METHODS if probability == "best" else (probability,), seed)
    requests = traffic.per_request(win_rates)
    kept = router.calibration.probability if router.calibration is not None and probability == "keep" else None
    calibration = replace(
        Calibration.from_win_rates(requests, dataset=dataset),
        created=created,
        prompt_digest=traffic.digest,
        operating_points={point.target.name: point for point in points},
        prices=prices,
        win_rate_quantiles=win_rate_quantiles(requests),
        probability=fit.map if fit is not None and not fit.refusal else kept,
    )
    facts = {
        "requests": traffic.request_count,
        "distinct_prompts": len(traffic.prompts),
        "blank_prompts_left_out": traffic.blank,
        "distinct_win_rates": sample.level_count,
        "labelled_rows": len(rows),
        "labelled_rows_left_out": len(labelled) - len(rows),
        "labelled_strong_shares": {} if labels is None else _shares_on(labels, points),
    }
    warnings = [*_warnings(traffic, len(rows), points), *_probability_warnings(fit)]
    return Calibrated(calibration, facts, fit, tuple(warnings))


def _shares_on(labels: Sample, points: Sequence[OperatingPoint]) -> dict[str, float]:
    share = labels.splits().share
    return {point.target.name: round(float(share[labels.split_of(point.threshold.value)]), 9) for point in points}


@dataclass(frozen=True, slots=True)
class _Outcome:
    prompt: str
    group: str
    target: float
    weight: float = 1.0


def _known(pair: ModelPair) -> ModelPair:
    from routellm_fast.data import known_aliases

    aliases = known_aliases()
    return ModelPair(*(aliases.get(name, name) for name in pair))


def _labelled_rows(labelled: Sequence[Labelled], pair: ModelPair) -> list[Labelled]:
    rows = [row for row in labelled if all(model in row.scores for model in pair)]
    if labelled and not rows:
        found = sorted({model for row in labelled for model in row.scores})
        missing = [model for model in pair if model not in found]
        lack = f"no scores of {missing[0]!r}" if missing else f"no row with scores of both {pair[0]!r} and {pair[1]!r}"
        raise UnknownModelError(_names_models(f"the labelled rows have {lack}", found))
    return rows


def _names_models(problem: str, found: Sequence[str]) -> str:
    return f"{problem}, only of: {', '.join(found)}. Say which of them are the strong and the weak model."


def _outcomes_of_rows(rows: Sequence[Labelled], pair: ModelPair) -> list[_Outcome]:
    strong, weak = pair
    return [
        _Outcome(row.prompt, row.group, float(np.sign(row.scores[strong] - row.scores[weak])) / 2.0 + 0.5)
        for row in rows
    ]


def _outcomes_of_battles(battles: Sequence[Battle], pair: ModelPair) -> list[_Outcome]:
    found = [
        _Outcome(
            battle.prompt,
            battle.group,
            battle.target if battle.model_a == pair.strong else 1.0 - battle.target,
            battle.weight,
        )
        for battle in battles
        if {battle.model_a, battle.model_b} == set(pair)
    ]
    if battles and not found:
        names = sorted({name for battle in battles for name in (battle.model_a, battle.model_b)})
        raise UnknownModelError(_names_models(f"no battle is between {pair.strong!r} and {pair.weak!r}", names))
    return found


def _costs(
    router: Router, traffic: Traffic, prices: PairPrices | None
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    if prices is None:
        return None, None
    tokens = np.zeros(len(traffic.prompts), dtype=np.int64)
    if prices.counts_prompts:
        try:
            embedder = router.embedder
        except EmbedderUnavailableError:
            embedder = None
        tokens = token_counts(embedder, traffic.prompts)
    return prices.costs_usd(tokens)


def _fit(win_rates: FloatArray, outcomes: Sequence[_Outcome], methods: Sequence[Any], seed: int) -> ProbabilityFit:
    known = Outcomes(
        win_rates,
        np.array([outcome.target for outcome in outcomes]),
        [outcome.group for outcome in outcomes],
        np.array([outcome.weight for outcome in outcomes]),
    )
    return choose([fit_probability(known, method, seed=seed) for method in methods])


def _warnings(traffic: Traffic, labelled_rows: int, points: Sequence[OperatingPoint]) -> list[str]:
    warnings = []
    if traffic.request_count < _FEW:
        warnings.append(
            f"there are {traffic.request_count} prompts only; from about {_FEW * 10:,} on, a strong share is known to "
            "three percentage points"
        )
    if 0 < labelled_rows < _FEW:
        warnings.append(f"there are {labelled_rows} labelled rows only: the intervals of qualities are wide")
    resolution = max(_MISSED_BY, 1.0 / traffic.request_count)
    for point in points:
        missed = point.target.kind == "strong_share" and abs(point.strong_share.value - point.target.value)
        if missed and missed > resolution:
            warnings.append(
                f"{point.target.name} cannot be met, since many prompts have one and the same win rate: the nearest "
                f"strong share is {point.strong_share.value:.4g}"
            )
    return warnings


def _probability_warnings(fit: ProbabilityFit | None) -> list[str]:
    if fit is None:
        return []
    if fit.refusal:
        return [f"the {fit.method} map is not stored: {fit.refusal}"]
    warnings = []
    if fit.log_loss_gain.low <= 0.0:
        warnings.append("the gain in held-out log loss is within its noise: more labelled prompts would tell")
    if fit.has_few_levels:
        warnings.append(f"the {fit.method} map has {fit.map.levels} levels only: it makes most prompts alike")
    return warnings
