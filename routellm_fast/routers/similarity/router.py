"""Similarity-weighted ranking: battles on prompts like this one count more in a refit of the models' ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast import _core
from routellm_fast.arrays import FloatArray, check_unchanged
from routellm_fast.artifact import Artifact
from routellm_fast.decision import ModelPair
from routellm_fast.embedders.base import Embedder
from routellm_fast.errors import (
    ArtifactIntegrityError,
    InvalidArgumentError,
    InvalidEmbeddingError,
    UnknownModelError,
)
from routellm_fast.routers._models import index_of
from routellm_fast.routers.embedding import EmbeddingRouter, restored_native
from routellm_fast.routers.similarity.bank import (
    Block,
    Cells,
    Outcomes,
    cell_keys,
    cells_of,
    check_embeddings,
    encode_battles,
    is_same_tier,
    keys_of,
    make_block,
    suffix,
)
from routellm_fast.routers.similarity.compression import Compressed, compress, make_probes, restored_form
from routellm_fast.threads import available_threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRECISIONS: Final = ("float32", "int8", "moments")
SAME_TIER: Final = ("routellm", "ignore")
SOLVERS: Final = ("exact", "routellm")
# More would not help any machine, and could not all be started.
MOST_THREADS: Final = 1024
# RouteLLM moves all ratings so that this model has 1082; win rates do not notice.
_ANCHOR_MODEL: Final = "llama-2-70b-chat"
_ANCHOR_ELO: Final = 1082.0
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

    @classmethod
    def of_battles(
        cls,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        *,
        num_tiers: int = 10,
        same_tier: str = "routellm",
        solver: str = "exact",
    ) -> Ranking:
        """Rate all models and split them into tiers; SimilarityWeightedRouter.build explains the arguments.

        Raises:
            InvalidArgumentError: No battle, unequal lengths, an unknown winner or option.
        """
        _check_option("same_tier", same_tier, SAME_TIER)
        _check_option("solver", solver, SOLVERS)
        if not isinstance(num_tiers, int) or not 2 <= num_tiers <= 255:
            raise InvalidArgumentError(f"num_tiers must be an integer from 2 to 255, found {num_tiers!r}")
        battles, models, _ = encode_battles(model_a, model_b, winner, None)
        natural = _core.global_ratings(battles.model_a, battles.model_b, battles.outcome, len(models))
        order = np.argsort(-natural, kind="stable")
        tiers = np.empty(len(models), np.uint16)
        tiers[order] = _core.split_tiers(natural[order].tolist(), num_tiers)
        elo = 400.0 * natural + 1000.0
        if _ANCHOR_MODEL in models:
            elo += _ANCHOR_ELO - elo[models.index(_ANCHOR_MODEL)]
        return cls(tuple(models), tiers, elo, num_tiers, same_tier, solver)

    def encoded(self, model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str]) -> Outcomes:
        """Turn the names of battles into numbers.

        Raises:
            UnknownModelError: A battle of a model that has no tier.
            InvalidArgumentError: No battle, unequal lengths, or an unknown winner.
        """
        known = {name: index for index, name in enumerate(self.models)}
        battles, _, unknown = encode_battles(model_a, model_b, winner, known)
        if unknown:
            raise UnknownModelError(
                f"the router has no tier for {unknown[0]!r}"
                + (f" and {len(unknown) - 1} more" if unknown[1:] else "")
                + ": tiers are split when a router is built. Build one from all battles."
            )
        return battles

    def index(self, name: str) -> int:
        """Return a model's index. Raises UnknownModelError."""
        return index_of(name, self.models, "no battle of")


class SimilarityWeightedRouter(EmbeddingRouter):
    """RouteLLM's `sw_ranking`: every battle weighs 10^(cosine / largest cosine) in a Bradley-Terry refit of tiers.

    The refit collapses: only the sums of the weights of battles between the same tiers with the same outcome matter,
    so that a query is one pass over the bank and a fit of some ten unknowns. Battles keep no text: a bank holds unit
    embeddings, each once however many battles were fought on it.

    Precisions: "float32" is exact, the bank as it is and float64 behind the cosines. "int8" reads one byte for each of
    `pca_dim` principal dimensions. "moments" keeps the first two moments of each cell, whatever the number of battles,
    and looks for the largest cosine among the nearest clusters only. Both state `error_bound`, measured when they were
    built; `route` and `route_batch` score a win rate that lies within it of the threshold again, exactly.

    Banks and codes of a loaded router are mapped from its files. Whatever reads them raises ArtifactIntegrityError
    where such a file was changed in place since; a file that is cut off while it is read ends the process (SIGBUS).

    Source: section 4.2 of the paper; RouteLLM's SWRankingRouter (routers/routers.py, similarity_weighted/utils.py),
    whose code divides by the largest cosine of the query where the paper divides by another maximum.
    """

    kind = "sw_ranking"
    _native: _core.SimilarityWeightedRouter

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
        _native: _core.Router | None = None,
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
            threads: At most this many for a batch; None for one a core that the process may use.
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
        if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
            raise InvalidArgumentError(f"threads must be an integer from 1 to {MOST_THREADS}, found {threads!r}")
        self._threads = threads
        if _native is None:
            for name in self._scoring_pair:
                ranking.index(name)
        self._assemble(_native, threads=threads or available_threads())

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
        ranking: Ranking | None = None,
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
            ranking: Tiers that are known already, e.g. of more battles than these; its own num_tiers, same_tier and
                solver then count. None splits the models of these battles.
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
        if ranking is None:
            rules: dict[str, Any] = {"num_tiers": num_tiers, "same_tier": same_tier, "solver": solver}
            ranking = Ranking.of_battles(model_a, model_b, winner, **rules)
        battles = ranking.encoded(model_a, model_b, winner)
        vectors = check_embeddings(embeddings, len(winner))
        pair = ModelPair(strong_model, weak_model)
        for name in pair:
            ranking.index(name)
        cells, block = _place(vectors, cell_keys(battles, ranking.tiers, ranking.num_tiers), None, ranking)
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
        self._check_files()
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
        battles = ranking.encoded(model_a, model_b, winner)
        vectors = check_embeddings(embeddings, len(winner))
        if vectors.shape[1] != self.dim:
            raise InvalidEmbeddingError(f"the bank has {self.dim} dimensions, the new embeddings {vectors.shape[1]}")
        cells, block = _place(vectors, cell_keys(battles, ranking.tiers, ranking.num_tiers), self._cells, ranking)
        blocks = (*self._blocks, block)
        self._check_files()
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

    def tier_ratings_from_embeddings(self, embeddings: FloatArray) -> NDArray[np.float64]:
        """Return (n, tiers) float64 ratings behind the win rates; a difference of one means odds of ten to one.

        NaN for a tier that the battles do not compare with the strong model's. Raises InvalidEmbeddingError.
        """
        return self._native.tier_ratings(embeddings)

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
    def blocks(self) -> tuple[Block, ...]:
        """The battles that came together, each with its rows of the bank. Read-only."""
        return self._blocks

    @property
    def cells(self) -> Cells:
        """The cells that the battles of all blocks are in. Read-only."""
        return self._cells

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

    def _measured(self) -> SimilarityWeightedRouter:
        """Return the router with its error bound: twice the largest error on probes."""
        form = self._compressed
        if form is None:
            return self
        self._check_files()
        probes = make_probes(self._blocks, form.axes)
        cosines = self._native.largest_similarities(probes) / np.linalg.norm(probes, axis=1)
        if not np.isfinite(cosines).all():
            raise ArtifactIntegrityError(
                f"the {form.precision} form of the battles holds values that make no cosines: its files were changed. "
                "Make it again from the bank: with_precision."
            )
        # The less similar the nearest battle, the more the weights vary and the larger the error.
        reach = max(float(np.quantile(cosines, _OUT_OF_REACH)), 0.0)
        within = np.ascontiguousarray(probes[cosines >= reach])
        candidate = self._replaced(compressed=form.measured(reach, form.error_bound))
        found, exact = candidate._native.wide_win_rates(within), self._native.exact_win_rates(within)
        # Decisions are made on float32, so its smallest step at a win rate comes on top.
        bound = 2.0 * float(np.abs(found - exact).max(initial=0.0)) + 2.0**-23
        return candidate._replaced(compressed=form.measured(reach, bound))

    def _check_files(self) -> None:
        """Raise ArtifactIntegrityError where a file that the battles are mapped from was changed in place."""
        for array in self._mapped().values():
            check_unchanged(array)

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

    def _runtime(self) -> dict[str, Any]:
        return {} if self._threads is None else {"threads": self._threads}

    @classmethod
    def _restore(cls, artifact: Artifact, model_pair: ModelPair, common: dict[str, Any]) -> SimilarityWeightedRouter:
        native = restored_native(artifact, common["embedder"], threads=common.get("threads") or available_threads())
        settings, mapped = artifact.manifest["settings"], artifact.mapped
        # Copies: an array over a directory's contents would keep all of them.
        tensors = {name: array.copy() for name, array in artifact.tensors.items() if not name.startswith("embedder.")}
        ranking = Ranking(
            tuple(settings["models"]),
            tensors["tiers"],
            tensors["ratings"],
            settings["num_tiers"],
            settings["same_tier"],
            settings["solver"],
        )
        cells = Cells(*(tensors[f"cell_{name}"] for name in ("a", "b", "outcome", "battles")))
        blocks = [Block.restored(number, tensors, mapped) for number in range(settings["blocks"])]
        compression = settings["compression"]
        return cls(
            ranking,
            cells,
            blocks,
            model_pair=model_pair,
            scoring_pair=ModelPair(**settings["scoring_pair"]),
            compressed=None if compression is None else restored_form(compression, tensors, mapped, blocks, cells),
            _native=native,
            **common,
        )


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


def _check_option(what: str, value: str, options: Sequence[str]) -> None:
    if value not in options:
        raise InvalidArgumentError(f"{what} must be one of {', '.join(options)}, found {value!r}")
