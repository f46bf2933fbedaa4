"""mf and sw_ranking as graphs: from embeddings, or from token ids where the embedder is a token table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from routellm_fast.errors import UnsupportedExportError
from routellm_fast.routers.matrix_factorization import MatrixFactorizationRouter
from routellm_fast.routers.similarity.bank import A_WINS, TIE
from routellm_fast.routers.similarity.router import SimilarityWeightedRouter

from ._refit_graph import Refit, add_refit, starting_ratings
from ._static_graph import StaticInputs, StaticParts
from .graph import Dialect, Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMBEDDINGS: Final = "embeddings"
WIN_RATE: Final = "win_rate"
# Gauss-Jordan is written out: a node count that grows with the square of the tiers, RouteLLM has ten.
_MAX_TIERS: Final = 64
_CHUNK_ROWS: Final = 8192
_LN10: Final = float(np.log(10.0))

# Nodes that stay in float32 at every precision: sums over all battles overflow float16 and lose what bfloat16 and int8
# round away.
WIDE_NODES: Final = frozenset({"win_sums", "feature_scores", "token_sums"})


def mf_graph(router: MatrixFactorizationRouter, parts: StaticParts | None, dialect: Dialect) -> Graph:
    """Return the graph of an mf router; parts None reads embeddings."""
    graph = Graph("mf")
    vector = router.pair_vector.astype(np.float32)
    if parts is not None and not parts.settings["normalize"]:
        logit = StaticInputs(graph, parts, dialect).linear(vector)
    else:
        embeddings = _embeddings(graph, router.dim, parts, dialect)
        logit = graph.add("MatMul", embeddings, graph.constant(vector.reshape(-1, 1), name="pair"), name="logit")
    _finish(graph, graph.add("Sigmoid", logit))
    return graph


def sw_graph(router: SimilarityWeightedRouter, parts: StaticParts | None, dialect: Dialect) -> Graph:
    """Return the graph of an sw_ranking router over its float32 bank, whatever its precision.

    Args:
        router: With the exact solver.
        parts: Its embedder; None reads embeddings.
        dialect: What the run time can do with a graph.

    Raises:
        UnsupportedExportError: Another solver, or too many tiers.
    """
    if router.solver != "exact":
        raise UnsupportedExportError(
            f'the router\'s solver is "{router.solver}", which stops short of the maximum of the likelihood; a graph '
            'finds the maximum. Build the router with solver="exact" and calibrate it anew.'
        )
    if router.num_tiers > _MAX_TIERS:
        raise UnsupportedExportError(
            f"the router has {router.num_tiers} tiers; a graph holds up to {_MAX_TIERS}. Build it with fewer."
        )
    graph = Graph("sw_ranking")
    embeddings = _embeddings(graph, router.dim, parts, dialect)
    largest_value = graph.reduce("ReduceMax", graph.add("Abs", embeddings), 1)
    nothing = graph.constant(0.0, np.float32)
    is_zero = graph.add("Equal", largest_value, nothing)
    one = graph.constant(1.0, np.float32)
    # Lengths cancel; this keeps the cosines in range.
    queries = graph.add("Div", embeddings, graph.add("Where", is_zero, one, largest_value))
    bank = _Bank.of(router)
    rows = graph.constant(bank.unit_columns, name="bank")
    similarities = graph.add("MatMul", queries, rows, name="similarities")
    # The quotient and its exponential are what RouteLLM weighs with.
    largest = graph.reduce("ReduceMax", similarities, 1)
    no_weights = graph.add("Equal", largest, nothing)
    exponents = graph.add("Div", similarities, graph.add("Where", no_weights, one, largest))
    # The scale of weights cancels too; beyond 1 lie those of a query that is unlike all battles.
    exponents = graph.add("Sub", exponents, graph.reduce("ReduceMax", exponents, 1))
    weights = graph.add("Exp", graph.add("Mul", exponents, graph.constant(_LN10, np.float32)))
    sums = graph.add("MatMul", weights, graph.constant(bank.wins, np.float32, name="battles"), name="win_sums")
    count = len(bank.refit.start)
    table = graph.add("Reshape", graph.cast(sums, dialect.fit_dtype), graph.constant([-1, count, count], np.int64))
    rate = graph.cast(add_refit(graph, table, bank.refit, dialect.fit_dtype), np.float32)
    if router.tiers[router.scoring_pair.strong] == router.tiers[router.scoring_pair.weak]:
        rate = graph.add("Add", graph.add("Mul", rate, nothing), graph.constant(0.5, np.float32))
    # All battles weigh alike for the zero vector. Where another has no cosine but 0 there is no win rate.
    undefined = graph.add("And", no_weights, graph.add("Not", is_zero))
    _finish(graph, graph.add("Where", undefined, graph.constant(np.nan, np.float32), rate))
    return graph


@dataclass(frozen=True, slots=True)
class _Bank:
    """The battles as two matrices, and the fit at equal weights.

    Attributes:
        unit_columns: (dim, rows) float32 embeddings of length one.
        wins: (rows, n * n) the wins that each row's battles add to the table of n tiers, a tie half a win each.
        refit: Start and pair.
    """

    unit_columns: NDArray[np.float32]
    wins: NDArray[np.float64]
    refit: Refit

    @classmethod
    def of(cls, router: SimilarityWeightedRouter) -> _Bank:
        blocks, cells, players = router.blocks, router.cells, router.num_tiers + 1
        row_count = router.row_count
        unit = np.empty((router.dim, row_count), np.float32)
        wins = np.zeros((row_count, players * players))
        first = 0
        for block in blocks:
            for begin in range(0, len(block.rows), _CHUNK_ROWS):
                rows = slice(begin, begin + _CHUNK_ROWS)
                scaled = block.rows[rows] / block.norms[rows, None]
                unit[:, first + begin : first + begin + len(scaled)] = scaled.T
            row, cell, battles = block.entries()
            a, b, outcome = (side.astype(np.int64)[cell] for side in (cells.side_a, cells.side_b, cells.outcome))
            for winner, loser, share in (
                (a, b, np.where(outcome == TIE, 1.0, np.where(outcome == A_WINS, 2.0, 0.0))),
                (b, a, np.where(outcome == TIE, 1.0, np.where(outcome == A_WINS, 0.0, 2.0))),
            ):
                np.add.at(wins, (first + row.astype(np.int64), winner * players + loser), share * battles)
            first += len(block.rows)
        total = wins.sum(axis=0).reshape(players, players)
        strong, weak = (router.tiers[name] for name in router.scoring_pair)
        members = _comparable(total, strong)
        # Differences alone are determined: the anchor stands still where it is among the members, else the last tier.
        places = {member: place for place, member in enumerate(members)}
        table = wins.reshape(row_count, players, players)[:, members][:, :, members]
        refit = Refit(starting_ratings(table.sum(axis=0)), places[strong], places[weak])
        return cls(unit, table.reshape(row_count, -1), refit)


def _comparable(wins: NDArray[np.float64], tier: int) -> list[int]:
    """Return, in order, the tiers that have both won and lost against a tier, directly or through others."""
    beats = (wins > 0) | np.eye(len(wins), dtype=bool)
    for through in range(len(wins)):
        beats |= beats[:, [through]] & beats[[through], :]
    return [int(other) for other in np.flatnonzero(beats[tier] & beats[:, tier])]


def _embeddings(graph: Graph, dim: int, parts: StaticParts | None, dialect: Dialect) -> str:
    if parts is not None:
        return StaticInputs(graph, parts, dialect).embeddings()
    return graph.input(EMBEDDINGS, np.float32, ("batch", dim))


def _finish(graph: Graph, rates: str) -> None:
    flat = graph.add("Squeeze", rates, graph.constant([1], np.int64))
    graph.output(flat, WIN_RATE, np.float32, ("batch",))


def native_win_rates(router: Any, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what the graph computes, by the core: for sw_ranking the exact win rates, whatever its precision."""
    exact: NDArray[np.float64] = router.exact_win_rates_from_embeddings(embeddings, of_texts=True)
    return exact
