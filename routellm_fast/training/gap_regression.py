"""Train mf in closed form: which prompts need the strong model, then how strong each model is on them.

A ridge regression of measured gaps (how much better the strong model scored) on the embedding's token dimensions, with
the prompt's length beside it at a weight of its own, gives one score a prompt: its need. `item_response` then gives
every model a strength and a slope along it. Needs numpy only, takes seconds, and is the same to the last bit wherever
numpy's linear algebra is.

Why not by gradient descent on battles, as RouteLLM does: within a source, gaps say little about single prompts
(correlations of 0.1), and what is learned of one source by a flexible model does not hold for the next. A heavily
damped regression keeps what the sources share. How much it is damped, and how much length counts, is chosen on the
prompts trained on; for the router that ships, which is for all traffic, `recipes/selection.py` chose both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from routellm_fast.arrays import FloatArray
from routellm_fast.data.battles import Battles
from routellm_fast.data.split import held_out
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.embedders.static import StaticEmbedder
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.training.configs import GapRegressionConfig
from routellm_fast.training.embedding import embedded
from routellm_fast.training.held_out import (
    held_out_battles,
    loss_and_accuracy,
    results_by_source,
    split_counts,
)
from routellm_fast.training.item_response import fit_item_response
from routellm_fast.training.matrix_factorization import TrainedMatrixFactorization
from routellm_fast.training.progress import OnProgress
from routellm_fast.training.verdict import gain

# What is tried where the config leaves it open.
RIDGES: Final = (0.3, 1.0, 3.0, 10.0, 30.0)
LENGTH_WEIGHTS: Final = (0.0, 0.5, 1.5)
LENGTH: Final = "log_tokens"
_CONSTANT: Final = "constant"
_FOLDS: Final = 5
# Taken where the folds are too small to say.
_PLAIN: Final = (10.0, 1.5)
# A source whose gaps all are alike says nothing of its prompts.
_MIN_DEVIATION: Final = 1e-9
# Of the mean square: what float32 embeddings of one text vary by.
_MIN_VARIANCE: Final = 1e-12

# Of two models whose ratings differ by less, in logits, neither is the strong one.
MIN_RATING_GAP: Final = 0.3

Vector = NDArray[np.float64]


def scaled_gaps(gaps: Battles) -> Vector:
    """Return (n,) gaps, strong minus weak, in standard deviations of their source; NaN where a source has none."""
    gap = 2.0 * gaps.target.astype(np.float64) - 1.0
    scaled = np.full(len(gaps), np.nan)
    for source in range(len(gaps.sources)):
        members = gaps.source == source
        if members.any() and (deviation := gap[members].std()) > _MIN_DEVIATION:
            scaled[members] = gap[members] / deviation
    return scaled


def regress(tokens: Vector, gaps: Vector, sources: NDArray[np.int64], *, ridge: float) -> Vector:
    """Return the (dim,) direction of a ridge regression in which every source weighs the same.

    Args:
        tokens: (n, dim) token dimensions of the prompts.
        gaps: (n,) labels; rows that are NaN are left out.
        sources: (n,) index of each row's source.
        ridge: See GapRegressionConfig.

    Raises:
        DataError: No label is left, or the prompts are all alike.
    """
    known = np.isfinite(gaps)
    if not known.any():
        raise DataError(
            "no source has gaps that differ between its prompts: nothing says which of them need the strong model"
        )
    tokens, gaps, sources = tokens[known], gaps[known], sources[known]
    weight = 1.0 / np.bincount(sources)[sources]
    weight /= weight.sum()
    centred = tokens - weight @ tokens
    covariance = (centred * weight[:, None]).T @ centred
    scale = np.trace(covariance) / len(covariance)
    if not scale > _MIN_VARIANCE * np.mean(tokens**2):
        raise DataError("the prompts' embeddings are all alike: nothing can be learned of them")
    moments = (centred * weight[:, None]).T @ (gaps - weight @ gaps)
    direction: Vector = np.linalg.solve(covariance + ridge * scale * np.eye(len(covariance)), moments)
    return direction


def need_vector(
    gaps: Battles, embeddings: FloatArray, features: tuple[str, ...], *, ridge: float, length_weight: float
) -> Vector:
    """Return the (dim,) vector whose dot product with an embedding says how much a prompt needs the strong model.

    Args:
        gaps: Battles of one pair, strong first, whose targets are 0.5 and half the gap; see data.gaps.
        embeddings: (u, dim) of gaps.prompts.
        features: Surface features behind the token dimensions; log_tokens among them.
        ridge: See GapRegressionConfig.
        length_weight: See GapRegressionConfig.

    Raises:
        DataError: See regress; or the prompts differ neither in length nor in words.
        InvalidArgumentError: The embedder has no log_tokens.
    """
    _check_feature(LENGTH, features)
    wide = embeddings.astype(np.float64)
    token_dims = wide.shape[1] - len(features)
    tokens, length = wide[:, :token_dims], token_dims + features.index(LENGTH)
    direction = regress(tokens[gaps.prompt], scaled_gaps(gaps), gaps.source, ridge=ridge)
    vector = np.zeros(wide.shape[1])
    used = np.unique(gaps.prompt)
    for part, column, share in ((tokens @ direction, slice(token_dims), 1.0), (wide[:, length], length, length_weight)):
        deviation = part[used].std()
        if deviation > 0.0:  # prompts of one length, or of the same words, are told apart by the other alone
            vector[column] = share / deviation * (direction if column != length else 1.0)
    if not vector.any():
        raise DataError("the prompts differ neither in length nor in words: nothing says which need the strong model")
    return vector


def chosen(
    gaps: Battles, embeddings: FloatArray, features: tuple[str, ...], config: GapRegressionConfig
) -> GapRegressionConfig:
    """Return the config with a ridge and a length weight, both of them numbers.

    What is None is chosen: prompt groups are cut into five parts, each part is ordered by the regression of the others,
    and the pair of numbers with the largest mean gain (see `verdict`) is taken, every source weighing the same.

    Args:
        gaps: Those trained on; see need_vector.
        embeddings: (u, dim) of gaps.prompts.
        features: Surface features behind the token dimensions; log_tokens among them.
        config: Its seed draws the parts.
    """
    ridges = RIDGES if config.ridge is None else (config.ridge,)
    weights = LENGTH_WEIGHTS if config.length_weight is None else (config.length_weight,)
    if len(ridges) == len(weights) == 1:
        return config
    token_dims = embeddings.shape[1] - len(features)
    length = token_dims + features.index(LENGTH)
    part = _parts(gaps.groups, config.seed)[gaps.prompt]
    weight = 1.0 / np.bincount(gaps.source)[gaps.source]
    gains: dict[tuple[float, float], list[float]] = {}
    for index in range(_FOLDS):
        out = part == index
        for ridge in ridges:
            try:
                vector = need_vector(gaps.select(~out), embeddings, features, ridge=ridge, length_weight=1.0)
            except DataError:  # the other parts say nothing
                continue
            rows = embeddings[gaps.prompt[out]].astype(np.float64)
            words, lengths = rows[:, :token_dims] @ vector[:token_dims], rows[:, length] * vector[length]
            for of in weights if len(rows) else ():
                found = gain(words + of * lengths, gaps.target[out].astype(np.float64), weight[out])
                gains.setdefault((ridge, of), []).append(found)
    if not gains:
        plain = [
            given if given is not None else of
            for given, of in zip((config.ridge, config.length_weight), _PLAIN, strict=True)
        ]
        return replace(config, ridge=plain[0], length_weight=plain[1])
    ridge, length_weight = max(gains, key=lambda key: float(np.mean(gains[key])))
    return replace(config, ridge=ridge, length_weight=length_weight)


def _numbers(config: GapRegressionConfig) -> tuple[float, float]:
    """Return the ridge and the length weight of a config that `chosen` has returned."""
    if config.ridge is None or config.length_weight is None:
        raise ValueError("the ridge and the length weight are not chosen yet")
    return config.ridge, config.length_weight


def crossed_need(
    gaps: Battles,
    gap_embeddings: FloatArray,
    battles: Battles,
    embeddings: FloatArray,
    features: tuple[str, ...],
    config: GapRegressionConfig,
) -> Vector:
    """Return (u,) needs of battles.prompts, each by a regression on the gaps of the other parts.

    A regression fits the prompts that it has seen better than others. Slopes fitted to their needs would be too steep,
    and win rates too sure of themselves.

    Args:
        gaps: Those trained on; see need_vector.
        gap_embeddings: (v, dim) of gaps.prompts.
        battles: Their prompts and groups count.
        embeddings: (u, dim) of battles.prompts.
        features: Surface features behind the token dimensions; log_tokens among them.
        config: With a ridge and a length weight; see `chosen`.

    Raises:
        DataError: Without one of the parts the gaps say nothing.
    """
    ridge, length_weight = _numbers(config)
    part, gap_part = _parts(battles.groups, config.seed), _parts(gaps.groups, config.seed)[gaps.prompt]
    need = np.empty(len(part))
    for index in range(_FOLDS):
        others = gaps.select(gap_part != index)
        vector = need_vector(others, gap_embeddings, features, ridge=ridge, length_weight=length_weight)
        need[part == index] = embeddings[part == index].astype(np.float64) @ vector
    return need


def _check_feature(name: str, features: tuple[str, ...]) -> None:
    if name not in features:
        raise InvalidArgumentError(
            f"the embedder must have the surface feature {name}, found {', '.join(features) or 'none'}"
        )


def _parts(groups: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return (u,) the number of the part that each prompt is in, by its group."""
    borders = [~held_out(groups, k / _FOLDS, seed=seed) for k in range(1, _FOLDS)]
    parts: NDArray[np.int64] = np.sum(borders, axis=0)
    return parts


def can_embed(embedder: Embedder) -> bool:
    """Say whether an embedder has the surface features that this training needs."""
    return isinstance(embedder, StaticEmbedder) and {LENGTH, _CONSTANT} <= set(embedder.surface_features)


def gaps_of(battles: Battles, pair: ModelPair, config: GapRegressionConfig) -> Battles:
    """Return the battles that say which prompts need a stronger model, as `train` takes them.

    Battles of the pair tell its own gap. In those of other models the one with the higher rating plays the strong
    model, where ratings differ clearly. Both kinds of a source count as sources of their own, and so weigh the same.
    Ratings are of the battles that are trained on.

    Args:
        battles: Battles between all models; gaps keep their prompts and groups.
        pair: The strong and the weak model.
        config: Its held-out share, seed and item_ridge count.

    Raises:
        InvalidArgumentError: Nothing is left on one side of the split.
    """
    own, strong_share = battles.of_pair(pair)
    learned = ~held_out_battles(battles, config.held_out_share, seed=config.seed)
    flat = np.zeros(len(battles.prompts))
    rating = fit_item_response(battles, flat, learned, ridge=config.item_ridge).strength
    lead = rating[battles.model_a] - rating[battles.model_b]
    turned = np.where(lead > 0.0, battles.target, 1.0 - battles.target)
    return replace(
        battles,
        target=np.where(own, strong_share, turned).astype(np.float32),
        source=battles.source + np.where(own, 0, len(battles.sources)),
        sources=(*battles.sources, *(f"{name}, other pairs" for name in battles.sources)),
    ).select(own | (np.abs(lead) > MIN_RATING_GAP))


def train_on_battles(
    battles: Battles,
    pair: ModelPair,
    embedder: Embedder,
    config: GapRegressionConfig | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> TrainedMatrixFactorization:
    """Train on battles alone, from which the gaps are taken; see `train` and `gaps_of`.

    Raises:
        InvalidArgumentError: The embedder is no static one with the surface features constant and log_tokens; or see
            `train`.
        DataError: See `train`.
    """
    config = config or GapRegressionConfig()
    if not isinstance(embedder, StaticEmbedder) or not can_embed(embedder):
        raise InvalidArgumentError(
            f"gap regression needs a static embedder with the surface features {_CONSTANT} and {LENGTH}, such as the "
            f"one that ships; found {embedder.name}. Train by gradient descent, which takes any embedder: "
            "--method gradient_descent"
        )
    return train(gaps_of(battles, pair, config), battles, embedder, config, on_progress=on_progress)


def train(
    gaps: Battles,
    battles: Battles,
    embedder: StaticEmbedder,
    config: GapRegressionConfig | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> TrainedMatrixFactorization:
    """Train an mf router: the need of a prompt, and every model's strength and slope along it.

    Args:
        gaps: Battles of the pair whose measured gaps say which prompts need the strong model; see need_vector.
        battles: Battles between all models, the gaps of the pair among them, with their weights.
        embedder: With the surface features constant and log_tokens.
        config: None for the defaults. Where it leaves the ridge or the length weight open, these are chosen on the gaps
            trained on, and strengths and slopes are fitted to needs by other gaps; see `chosen` and `crossed_need`.
        on_progress: Called as prompts are embedded.

    Raises:
        DataError: The gaps say nothing; see need_vector.
        InvalidArgumentError: The embedder lacks a feature, or nothing is left on one side of the split.
    """
    config = config or GapRegressionConfig()
    features = embedder.surface_features
    for name in (_CONSTANT, LENGTH):
        _check_feature(name, features)
    out_gaps = held_out_battles(gaps, config.held_out_share, seed=config.seed)
    out = held_out_battles(battles, config.held_out_share, seed=config.seed)
    embeddings = embedded(battles.prompts, embedder, on_progress)
    gap_embeddings = embeddings if gaps.prompts == battles.prompts else embedded(gaps.prompts, embedder)
    known = gaps.select(~out_gaps)
    is_open = config.ridge is None or config.length_weight is None
    config = chosen(known, gap_embeddings, features, config)
    ridge, length_weight = _numbers(config)
    vector = need_vector(known, gap_embeddings, features, ridge=ridge, length_weight=length_weight)
    need = embeddings.astype(np.float64) @ vector
    centre = float(need[np.unique(battles.prompt[~out])].mean())
    fitted_to = need - centre
    if is_open:
        with contextlib.suppress(DataError):  # too few gaps to leave some out
            crossed = crossed_need(known, gap_embeddings, battles, embeddings, features, config)
            fitted_to = crossed - float(crossed[np.unique(battles.prompt[~out])].mean())
    response = fit_item_response(battles, fitted_to, ~out, ridge=config.item_ridge)
    constant = embeddings.shape[1] - len(features) + features.index(_CONSTANT)
    vector[constant] -= centre
    P, W, w = response.factors(vector, constant)  # noqa: N806 - the paper's letters
    logits = response.logits(battles, need - centre)
    sides = {"train": ~out, "held_out": out}
    losses = {
        side: loss_and_accuracy(
            logits[mask].astype(np.float32),
            battles.target[mask].astype(np.float64),
            battles.weight[mask].astype(np.float64),
        )
        for side, mask in sides.items()
    }
    metrics: dict[str, Any] = {
        "trainer": "gap_regression",
        **split_counts(battles, out),
        "gaps": {"train": int((~out_gaps).sum()), "held_out": int(out_gaps.sum())},
        "config": asdict(config),
        **{f"{side}_loss": loss for side, (loss, _) in losses.items()},
        **{f"{side}_accuracy": accuracy for side, (_, accuracy) in losses.items()},
        "held_out_by_source": results_by_source(battles, out, logits.astype(np.float32)),
    }
    return TrainedMatrixFactorization(
        model_names=battles.models, P=P, W=W, w=w, metrics=metrics, logits=logits.astype(np.float32)
    )
