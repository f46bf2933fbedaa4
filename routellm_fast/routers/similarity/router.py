"""Similarity-weighted ranking: battles on prompts like this one count more in a refit of the models' ratings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import FloatArray
from routellm_fast.artifact import Artifact
from routellm_fast.decision import Decision, ModelPair, check_share, decide
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    EmbedderMismatchError,
    InvalidArgumentError,
    InvalidEmbeddingError,
    UnknownModelError,
)
from routellm_fast.routers._models import index_of
from routellm_fast.routers.base import Router
from routellm_fast.routers.similarity.bank import (
    Block,
    Cells,
    cell_keys,
    cells_of,
    check_counts,
    check_embeddings,
    encode_battles,
    is_same_tier,
    keys_of,
    make_block,
    read_block,
    suffix,
)
from routellm_fast.routers.similarity.compression import Compressed, compress, make_probes, read_compressed

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRECISIONS: Final = ("float32", "int8", "moments")
SAME_TIER: Final = ("routellm", "ignore")
SOLVERS: Final = ("exact", "routellm")
# RouteLLM moves all ratings so that this model has 1082; win rates do not notice.
_ANCHOR_MODEL: Final = "llama-2-70b-chat"
_ANCHOR_ELO: Final = 1082.0
# Below this many multiply-adds a batch is over before a second thread has started.
_MIN_THREADED_WORK: Final = 50_000_000
# The share of probes, those least similar to all battles, that are left to the bank, as queries like them will be.
_OUT_OF_REACH: Final = 0.01


@dataclass(frozen=True, slots=True)
class Ranking:
    """What the battles say of the models, whatever the prompt.

    Attributes:
        models: (m,) names, in the order of the indices.
        tiers: (m,) uint16, 0 the best.
        ratings: (m,) float64 RouteLLM's Elo.
        num_tiers: How many tiers there are; some may be empty.
        same_tier: What battles inside a tier do: "routellm" or "ignore".
        solver: "exact" or "routellm".
    """

    models: tuple[str, ...]
    tiers: NDArray[np.uint16]
    ratings: NDArray[np.float64]
    num_tiers: int
    same_tier: str
    solver: str

    def index(self, name: str) -> int:
        """Return a model's index. Raises UnknownModelError."""
        return index_of(name, self.models, "no battle of")

    def refit(self, cells: Cells, pair: ModelPair) -> _core.TierRefit:
        """Return the compiled refit for a pair of models."""
        strong, weak = (int(self.tiers[self.index(name)]) for name in pair)
        return _core.TierRefit(
            self.num_tiers,
            cells.side_a,
            cells.side_b,
            cells.outcome,
            cells.battles,
            strong_tier=strong,
            weak_tier=weak,
            solver=self.solver,
        )


class SimilarityWeightedRouter(Router):
    """RouteLLM's `sw_ranking`: every battle weighs 10^(cosine / largest cosine) in a Bradley-Terry refit of tiers.

    The refit collapses: only the sums of the weights of battles between the same tiers with the same outcome matter,
    so that a query is one pass over the bank and a fit of some ten unknowns. Battles keep no text: a bank holds unit
    embeddings, each once however many battles were fought on it.

    Precisions: "float32" is exact, the bank as it is and float64 behind the cosines. "int8" reads one byte for each of
    `pca_dim` principal dimensions. "moments" keeps the first two moments of each cell, whatever the number of battles,
    and looks for the largest cosine among the nearest clusters only. Both state `error_bound`, measured when they were
    built; `route` and `route_batch` score a win rate that lies within it of the threshold again, exactly.

    Source: section 4.2 of the paper; RouteLLM's SWRankingRouter (routers/routers.py, similarity_weighted/utils.py),
    whose code divides by the largest cosine of the query where the paper divides by another maximum.
    """

    kind = "sw_ranking"

    def __init__(
        self,
        ranking: Ranking,
        cells: Cells,
        blocks: Sequence[Block],
        *,
        model_pair: ModelPair,
        scoring_pair: ModelPair | None = None,
        compressed: Compressed | None = None,
        threads: int | None = None,
        embedder: Embedder | None = None,
        **common: Any,
    ) -> None:
        """Put the parts together; `build` makes them from battles.

        Args:
            ranking: Models, tiers and rules.
            cells: The cells that battles are in.
            blocks: The battles.
            model_pair: The models that prompts are sent to; any names.
            scoring_pair: The pair whose win rate is computed, both in the ranking. None: model_pair itself.
            compressed: A smaller form of the battles; None scores all exactly.
            threads: At most this many for a batch; None for one a core.
            embedder: Of the bank's dimension, or None to score embeddings only.
            **common: calibration, provenance, model_card; see Router.

        Raises:
            UnknownModelError: A model of the scoring pair is in no battle.
            InvalidArgumentError: The battles do not compare the pair; see `build`.
            EmbedderMismatchError: The embedder's dim is not the bank's.
        """
        super().__init__(model_pair, embedder=embedder, **common)
        self._ranking, self._cells, self._blocks, self._compressed = ranking, cells, tuple(blocks), compressed
        self._scoring_pair = ModelPair(*(scoring_pair or model_pair))
        if threads is not None and (type(threads) is not int or threads < 1):
            raise InvalidArgumentError(f"threads must be an integer from 1 on, found {threads!r}")
        self._threads = threads
        dims = {block.rows.shape[1] for block in self._blocks}
        if len(dims) != 1:
            raise InvalidArgumentError(f"all battles must have embeddings of one dimension, found {sorted(dims)}")
        self._dim: int = dims.pop()
        if embedder is not None and embedder.dim != self._dim:
            raise EmbedderMismatchError(
                f"the bank has {self._dim} dimensions, the embedder {embedder.name} makes {embedder.dim}"
            )
        refit = ranking.refit(cells, self._scoring_pair)
        native = [block.native(len(cells)) for block in self._blocks]
        # Thresholds brought along from RouteLLM deserve its digits: it computes cosines in float64.
        bank = _core.SimilarityBank(self._dim, len(cells), native, wide=ranking.solver == "routellm")
        self._bank = bank
        self._exact = _core.SimilarityScorer(bank, refit)
        self._scorer = (
            self._exact if compressed is None else _core.SimilarityScorer(compressed.native(bank, cells), refit)
        )

    @classmethod
    def build(
        cls,
        embeddings: Any,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        *,
        strong_model: str,
        weak_model: str,
        embedder: Embedder | None,
        num_tiers: int = 10,
        precision: str = "float32",
        same_tier: str = "routellm",
        solver: str = "exact",
        pca_dim: int | None = None,
        threads: int | None = None,
        model_pair: ModelPair | None = None,
        **common: Any,
    ) -> SimilarityWeightedRouter:
        """Build a router from battles.

        Args:
            embeddings: (n, dim) real numbers, one row a battle; kept as float32 of length one.
            model_a: n names.
            model_b: n names.
            winner: n of "model_a", "model_b", "tie".
            strong_model: The pair whose win rate is computed, both among the battles' models.
            weak_model: See strong_model.
            embedder: What made the embeddings; None to score embeddings only.
            num_tiers: Into how many tiers the models are split, at least 2.
            precision: "float32", "int8" or "moments"; see the class.
            same_tier: What battles inside one tier do. "routellm" keeps what its design matrix makes of them: a battle
                of the tier against a rating of 0, which moves win rates by about 0.01; "ignore" leaves them out, also
                of the largest cosine.
            solver: "exact" for the maximum of the likelihood, or "routellm" for the ratings at which scikit-learn's
                LogisticRegression stops, which may leave a win rate 1e-3 away: for thresholds brought along from
                RouteLLM. Cosines are then added in float64 as well, which costs batches their advantage.
            pca_dim: Dimensions that a compressed precision keeps; None chooses.
            threads: At most this many for a batch; None for one a core.
            model_pair: The models that prompts are sent to; None for the scoring pair.
            **common: calibration, provenance, model_card; see Router.

        Raises:
            InvalidEmbeddingError: Not (n, dim), not finite, or a row of zeros; the text names the row.
            InvalidArgumentError: No battle, unequal lengths, an unknown winner or option; or a pair that the battles
                do not compare: with the exact solver each tier must have both won and lost against the other,
                directly or through other tiers.
            UnknownModelError: A model of the pair is in no battle.
            EmbedderMismatchError: The embedder's dim differs.
        """
        _check_option("precision", precision, PRECISIONS)
        _check_option("same_tier", same_tier, SAME_TIER)
        _check_option("solver", solver, SOLVERS)
        if not isinstance(num_tiers, int) or not 2 <= num_tiers <= 255:
            raise InvalidArgumentError(f"num_tiers must be an integer from 2 to 255, found {num_tiers!r}")
        battles, models, _ = encode_battles(model_a, model_b, winner, None)
        vectors = check_embeddings(embeddings, len(winner))
        natural = _core.global_ratings(battles.model_a, battles.model_b, battles.outcome, len(models))
        order = np.argsort(-natural, kind="stable")
        tiers = np.empty(len(models), np.uint16)
        tiers[order] = _core.split_tiers(natural[order].tolist(), num_tiers)
        elo = 400.0 * natural + 1000.0
        if _ANCHOR_MODEL in models:
            elo += _ANCHOR_ELO - elo[models.index(_ANCHOR_MODEL)]
        ranking = Ranking(tuple(models), tiers, elo, num_tiers, same_tier, solver)
        pair = ModelPair(strong_model, weak_model)
        for name in pair:
            ranking.index(name)
        cells, block = _place(vectors, cell_keys(battles, tiers, num_tiers), None, ranking)
        router = cls(
            ranking,
            cells,
            [block],
            model_pair=model_pair or pair,
            scoring_pair=pair,
            threads=threads,
            embedder=embedder,
            **common,
        )
        return router if precision == "float32" else router.with_precision(precision, pca_dim=pca_dim)

    def with_precision(self, precision: str, *, pca_dim: int | None = None) -> SimilarityWeightedRouter:
        """Return a router over the same bank in another precision; see `build`."""
        _check_option("precision", precision, PRECISIONS)
        if precision == "float32":
            return self._replaced(compressed=None)
        return self._replaced(compressed=compress(precision, self._blocks, self._cells, pca_dim))._measured()

    def add_battles(
        self, embeddings: Any, model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str]
    ) -> SimilarityWeightedRouter:
        """Return a router that has these battles too; this one is left as it is and shares its bank with the new one.

        Models keep their tiers. Embeddings that the bank has already are stored again. The calibration is dropped,
        since win rates have moved; a compressed router's error bound is measured again.

        Raises:
            UnknownModelError: A battle of a model that has no tier yet; build a new router with it.
            InvalidEmbeddingError, InvalidArgumentError: See build.
        """
        ranking = self._ranking
        known = {name: index for index, name in enumerate(ranking.models)}
        battles, _, unknown = encode_battles(model_a, model_b, winner, known)
        if unknown:
            raise UnknownModelError(
                f"the router has no tier for {unknown[0]!r}"
                + (f" and {len(unknown) - 1} more" if unknown[1:] else "")
                + ": tiers are split when a router is built. Build one from all battles."
            )
        vectors = check_embeddings(embeddings, len(winner))
        if vectors.shape[1] != self._dim:
            raise InvalidEmbeddingError(f"the bank has {self._dim} dimensions, the new embeddings {vectors.shape[1]}")
        cells, block = _place(vectors, cell_keys(battles, ranking.tiers, ranking.num_tiers), self._cells, ranking)
        blocks = (*self._blocks, block)
        compressed = None if self._compressed is None else self._compressed.extended(block, cells)
        return self._replaced(cells=cells, blocks=blocks, compressed=compressed, calibration=None)._measured()

    def for_pair(self, strong_model: str, weak_model: str) -> SimilarityWeightedRouter:
        """Return a router that scores, and sends to, another pair of its models. It is not calibrated.

        A compressed router's error bound is measured again.

        Raises:
            UnknownModelError: A model that is in no battle.
            InvalidArgumentError: The battles do not compare the pair.
        """
        pair = ModelPair(strong_model, weak_model)
        return self._replaced(model_pair=pair, scoring_pair=pair, calibration=None)._measured()

    def win_rate(self, prompt: str) -> float:
        """Return the strong model's win rate in [0, 1]. Where the embedding is zero all battles weigh the same."""
        return _as_float32(self._scorer.win_rate(self.embedder.embed([prompt])[0], weigh_zeros=True))

    def win_rates(self, prompts: Sequence[str]) -> FloatArray:
        """Return (n,) float32 win rates."""
        return self._rates(self._scorer, self.embedder.embed(prompts), weigh_zeros=True).astype(np.float32)

    def win_rates_from_embeddings(self, embeddings: FloatArray) -> FloatArray:
        """Return (n,) float32 win rates of (n, dim) float32 C-contiguous embeddings of any length but zero.

        Raises:
            InvalidEmbeddingError: Another shape or type, a value that is not finite, a row of zeros, or a row whose
                largest similarity is exactly 0; the text names the row.
        """
        return self._rates(self._scorer, embeddings).astype(np.float32)

    def win_rate_from_embedding(self, embedding: FloatArray) -> float:
        """Return the win rate of one (dim,) float32 embedding. Raises InvalidEmbeddingError."""
        return _as_float32(self._scorer.win_rate(embedding))

    def exact_win_rates_from_embeddings(self, embeddings: FloatArray) -> NDArray[np.float64]:
        """Return (n,) float64 win rates from the whole bank, whatever the precision. Raises as the others do."""
        return self._rates(self._exact, embeddings)

    def tier_ratings_from_embeddings(self, embeddings: FloatArray) -> NDArray[np.float64]:
        """Return (n, tiers) float64 ratings behind the win rates; a difference of one means odds of ten to one.

        NaN for a tier that the battles do not compare with the strong model's. Raises InvalidEmbeddingError.
        """
        return self._scorer.ratings(embeddings, self._workers(embeddings))

    def route(self, prompt: str, threshold: float = 0.5) -> Decision:
        """Choose the strong model when its win rate is at least the threshold, exactly; see Router.route."""
        threshold = check_share(threshold, "threshold")
        embedding = self.embedder.embed([prompt])[0]
        win_rate = _as_float32(self._scorer.win_rate(embedding, weigh_zeros=True))
        if self._is_uncertain(win_rate, threshold):
            win_rate = _as_float32(self._exact.win_rate(embedding, weigh_zeros=True))
        return decide(self._model_pair, win_rate, threshold)

    def route_batch(self, prompts: Sequence[str], threshold: float = 0.5) -> list[Decision]:
        """Return route of each prompt."""
        threshold = check_share(threshold, "threshold")
        embeddings = self.embedder.embed(prompts)
        win_rates = self._rates(self._scorer, embeddings, weigh_zeros=True).astype(np.float32)
        uncertain = self._is_uncertain(win_rates.astype(np.float64), threshold)
        if np.any(uncertain):
            again = np.ascontiguousarray(embeddings[uncertain])
            win_rates[uncertain] = self._rates(self._exact, again, weigh_zeros=True)
        return [decide(self._model_pair, win_rate, threshold) for win_rate in win_rates.tolist()]

    @property
    def facts(self) -> dict[str, Any]:
        """Battles, tiers and precision."""
        tiers = self.tiers
        return {
            "scoring pair": list(self._scoring_pair),
            "tiers of the pair": [tiers[name] for name in self._scoring_pair],
            "battles": f"{self.battle_count:,} of {len(tiers)} models in {self.num_tiers} tiers",
            "embeddings": f"{self.row_count:,} of {self.dim} dimensions",
            "precision": self.precision,
            "error bound": self.error_bound,
            "same tier": self.same_tier,
            "solver": self.solver,
        }

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models that there are battles of."""
        return self._ranking.models

    @property
    def tiers(self) -> dict[str, int]:
        """Tier of each model, 0 the best."""
        return dict(zip(self._ranking.models, self._ranking.tiers.tolist(), strict=True))

    @property
    def ratings(self) -> dict[str, float]:
        """Elo of each model over all battles at equal weights, as RouteLLM computes it before it splits tiers."""
        return dict(zip(self._ranking.models, self._ranking.ratings.tolist(), strict=True))

    @property
    def scoring_pair(self) -> ModelPair:
        """The pair whose win rate is computed; `model_pair` may have other names."""
        return self._scoring_pair

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    @property
    def battle_count(self) -> int:
        """How many battles weigh in."""
        return round(float(self._cells.battles.sum()))

    @property
    def row_count(self) -> int:
        """How many embeddings the bank holds."""
        return sum(len(block.rows) for block in self._blocks)

    @property
    def num_tiers(self) -> int:
        """How many tiers there are."""
        return self._ranking.num_tiers

    @property
    def precision(self) -> str:
        """float32, int8 or moments."""
        return "float32" if self._compressed is None else self._compressed.precision

    @property
    def same_tier(self) -> str:
        """What battles inside one tier do: routellm or ignore."""
        return self._ranking.same_tier

    @property
    def solver(self) -> str:
        """Exact or routellm."""
        return self._ranking.solver

    @property
    def bytes_per_query(self) -> int:
        """How much of the router's tensors one query reads, where it need not be answered exactly."""
        if self._compressed is None:
            return sum(block.rows.nbytes for block in self._blocks)
        return self._compressed.bytes_per_query

    @property
    def error_bound(self) -> float:
        """How far a win rate may be from the exact one: twice the largest error met on probes when it was built."""
        return 0.0 if self._compressed is None else self._compressed.error_bound

    def _rates(
        self, scorer: _core.SimilarityScorer, embeddings: FloatArray, *, weigh_zeros: bool = False
    ) -> NDArray[np.float64]:
        return scorer.win_rates(embeddings, self._workers(embeddings), weigh_zeros)

    def _workers(self, embeddings: FloatArray) -> int:
        queries = len(embeddings) if np.ndim(embeddings) == 2 else 0  # the core refuses any other
        if queries * self.row_count * self._dim < _MIN_THREADED_WORK:
            return 1
        return self._threads or self._cores

    @cached_property
    def _cores(self) -> int:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def _is_uncertain(self, win_rate: Any, threshold: float) -> Any:
        return abs(win_rate - threshold) <= self.error_bound if self._compressed is not None else False

    def _measured(self) -> SimilarityWeightedRouter:
        """Return the router with its error bound: twice the largest error on probes."""
        form = self._compressed
        if form is None:
            return self
        probes = make_probes(self._blocks, form.axes)
        _, largest = form.native(self._bank, self._cells).sum(probes)
        cosines = largest / np.linalg.norm(probes, axis=1)
        if not np.isfinite(cosines).all():
            raise ArtifactIntegrityError(
                f"the {form.precision} form of the battles holds values that make no cosines: its files were changed. "
                "Make it again from the bank: with_precision."
            )
        # The less similar the nearest battle, the more the weights vary and the larger the error.
        reach = max(float(np.quantile(cosines, _OUT_OF_REACH)), 0.0)
        within = np.ascontiguousarray(probes[cosines >= reach])
        candidate = self._replaced(compressed=form.measured(reach, form.error_bound))
        found, exact = candidate._rates(candidate._scorer, within), self._rates(self._exact, within)
        # Decisions are made on float32, so its smallest step at a win rate comes on top.
        bound = 2.0 * float(np.abs(found - exact).max(initial=0.0)) + 2.0**-23
        return candidate._replaced(compressed=form.measured(reach, bound))

    def _replaced(self, **changes: Any) -> SimilarityWeightedRouter:
        parts: dict[str, Any] = {
            "ranking": self._ranking,
            "cells": self._cells,
            "blocks": self._blocks,
            "model_pair": self._model_pair,
            "scoring_pair": self._scoring_pair,
            "compressed": self._compressed,
            "threads": self._threads,
            "embedder": self._embedder,
            "embedder_spec": self._embedder_spec,
            "calibration": self._calibration,
            "provenance": self._provenance,
            "model_card": self._model_card,
        }
        return SimilarityWeightedRouter(**{**parts, **changes})

    def _settings(self) -> dict[str, Any]:
        ranking = self._ranking
        return {
            "models": list(ranking.models),
            "num_tiers": ranking.num_tiers,
            "same_tier": ranking.same_tier,
            "solver": ranking.solver,
            "scoring_pair": self._scoring_pair._asdict(),
            "blocks": len(self._blocks),
            "compression": None if self._compressed is None else self._compressed.settings(),
        }

    def _tensors(self) -> dict[str, NDArray[Any]]:
        tensors: dict[str, NDArray[Any]] = {
            "tiers": self._ranking.tiers,
            "ratings": self._ranking.ratings,
            "cell_a": self._cells.side_a,
            "cell_b": self._cells.side_b,
            "cell_outcome": self._cells.outcome,
            "cell_battles": self._cells.battles,
        }
        for number, block in enumerate(self._blocks):
            tensors |= block.tensors(suffix(number))
        return tensors if self._compressed is None else {**tensors, **self._compressed.tensors()}

    def _mapped(self) -> dict[str, NDArray[Any]]:
        mapped = {f"bank{suffix(number)}": block.rows for number, block in enumerate(self._blocks)}
        return mapped if self._compressed is None else {**mapped, **self._compressed.mapped()}

    @classmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> SimilarityWeightedRouter:
        settings, tensors = artifact.manifest["settings"], artifact.tensors
        _check_settings(settings)
        ranking = Ranking(
            tuple(settings["models"]),
            _tensor(tensors, "tiers", np.uint16, len(settings["models"])),
            _tensor(tensors, "ratings", np.float64, len(settings["models"])),
            settings["num_tiers"],
            settings["same_tier"],
            settings["solver"],
        )
        if len(set(ranking.models)) != len(ranking.models) or not (ranking.tiers < ranking.num_tiers).all():
            raise ArtifactFormatError(
                f"an sw_ranking router's models are distinct and in tiers 0 to {ranking.num_tiers - 1}"
            )
        side_a = _tensor(tensors, "cell_a", np.uint16, None)
        cells = Cells(
            side_a,
            _tensor(tensors, "cell_b", np.uint16, len(side_a)),
            _tensor(tensors, "cell_outcome", np.uint8, len(side_a)),
            _tensor(tensors, "cell_battles", np.float64, len(side_a)),
        )
        blocks = []
        for number in range(settings["blocks"]):
            name = f"bank{suffix(number)}"
            if name not in artifact.mapped:
                raise ArtifactFormatError(f"an sw_ranking router needs the mapped tensor {name}, which is not there")
            blocks.append(read_block(suffix(number), artifact.mapped[name], tensors))
        check_counts(blocks, cells)
        compression = settings["compression"]
        compressed = (
            None if compression is None else read_compressed(compression, tensors, artifact.mapped, blocks, cells)
        )
        try:
            return cls(
                ranking,
                cells,
                blocks,
                model_pair=model_pair,
                scoring_pair=ModelPair(**settings["scoring_pair"]),
                compressed=compressed,
                **common,
            )
        except (InvalidArgumentError, UnknownModelError, EmbedderMismatchError, TypeError) as error:
            raise ArtifactFormatError(f"the sw_ranking router's parts do not fit together: {error}") from error


def _place(vectors: FloatArray, keys: NDArray[np.int64], known: Cells | None, ranking: Ranking) -> tuple[Cells, Block]:
    """Return all cells, known ones first, and the block of these battles."""
    if ranking.same_tier == "ignore":
        kept = ~is_same_tier(keys, ranking.num_tiers)
        if not kept.any():
            raise InvalidArgumentError(
                'every battle is inside one tier, and same_tier is "ignore": there is nothing to rank by'
            )
        vectors, keys = (vectors, keys) if kept.all() else (vectors[kept], keys[kept])
    found, cell = np.unique(keys, return_inverse=True)
    counts = np.bincount(cell, minlength=len(found)).astype(np.float64)
    if known is None:
        return cells_of(found, counts, ranking.num_tiers), make_block(vectors, cell)
    old = keys_of(known, ranking.num_tiers)
    new = np.setdiff1d(found, old)
    everything = np.concatenate([old, new])
    places = np.argsort(everything)
    cell = places[np.searchsorted(everything, keys, sorter=places)]
    battles = np.bincount(cell, minlength=len(everything)).astype(np.float64)
    battles[: len(old)] += known.battles
    return cells_of(everything, battles, ranking.num_tiers), make_block(vectors, cell)


def _as_float32(value: float) -> float:
    return float(np.float32(value))


def _check_option(what: str, value: str, options: Sequence[str]) -> None:
    if value not in options:
        raise InvalidArgumentError(f"{what} must be one of {', '.join(options)}, found {value!r}")


def _tensor(tensors: Mapping[str, NDArray[Any]], name: str, dtype: Any, length: int | None) -> NDArray[Any]:
    found = tensors.get(name)
    if found is None or found.dtype != dtype or found.ndim != 1 or (length is not None and len(found) != length):
        shown = "nothing" if found is None else f"{found.dtype} {found.shape}"
        raise ArtifactFormatError(
            f"an sw_ranking router needs {name}, {np.dtype(dtype)} ({length or 'n'},); found {shown}"
        )
    return found


_SETTINGS: Final[Mapping[str, tuple[type, ...]]] = {
    "models": (list,),
    "num_tiers": (int,),
    "same_tier": (str,),
    "solver": (str,),
    "scoring_pair": (dict,),
    "blocks": (int,),
    "compression": (dict, type(None)),
}


def _check_settings(settings: Mapping[str, Any]) -> None:
    fits = (
        set(settings) == set(_SETTINGS)
        and all(isinstance(settings[key], types) for key, types in _SETTINGS.items())
        and all(isinstance(name, str) for name in settings["models"])
        and 2 <= settings["num_tiers"] <= 255
        and settings["blocks"] >= 1
    )
    if not fits:
        raise ArtifactFormatError(
            f"an sw_ranking router's settings hold {', '.join(_SETTINGS)}: names, 2 to 255 tiers and at least one block"
        )
    for what, options in (("same_tier", SAME_TIER), ("solver", SOLVERS)):
        if settings[what] not in options:
            raise ArtifactFormatError(
                f"an sw_ranking router's {what} is one of {', '.join(options)}, found {settings[what]!r}"
            )
