"""sw_ranking where there is little to rank by, where input is wrong, and where a directory is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import routellm_fast as rf
from routellm_fast.artifact import ROUTER_LAYOUT, Artifact, read_artifact, write_artifact
from routellm_fast.routers import SimilarityWeightedRouter
from routellm_fast.routers.similarity.router import PRECISIONS
from tests.support.builders import PAIR, static_embedder
from tests.support.processes import assert_refused, run_cli
from tests.support.sw_builders import MODELS, battle_texts, battles, sw_router
from tests.support.sw_reference import SimilarityWeighted

COMPRESSED = [precision for precision in PRECISIONS if precision != "float32"]
PROMPTS = ["hello", "prove the a b c?", "", "write 1 { }", "ünknown wörds", "?" * 40]
EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def ranked(
    embeddings: Any, winner: list[str], *, model_a: Any = None, model_b: Any = None, **options: Any
) -> SimilarityWeightedRouter:
    """A router over battles of "s" against "w", unless other names are given."""
    model_a = ["s"] * len(winner) if model_a is None else model_a
    model_b = ["w"] * len(winner) if model_b is None else model_b
    options = {"strong_model": "s", "weak_model": "w", "embedder": None, **options}
    return SimilarityWeightedRouter.build(embeddings, model_a, model_b, winner, **options)


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, np.float32)


def sides(count: int) -> dict[str, list[str]]:
    model_a, model_b, _ = battles(count)
    return {"model_a": model_a, "model_b": model_b}


# --- what battles give


def test_a_win_rate_is_the_share_of_the_weights_where_two_tiers_meet() -> None:
    router = ranked([EAST, NORTH], ["model_a", "model_b"])
    assert router.tiers["s"] != router.tiers["w"]
    # Cosines 0.8 and 0.6: weights of 10 and 10 ** 0.75.
    found = router.win_rates_from_embeddings(rows([4.0, 3.0], [3.0, 4.0], EAST))
    share = 10.0 / (10.0 + 10.0**0.75)
    np.testing.assert_allclose(found, [share, 1.0 - share, 10.0 / 11.0], atol=1e-6)
    np.testing.assert_allclose(router.tier_ratings_from_embeddings(rows(EAST))[0, [0, 9]], [0.5, -0.5], atol=1e-9)


def test_where_all_similarities_are_negative_the_most_opposite_battle_weighs_most() -> None:
    """RouteLLM's quirk: a cosine divided by the largest, also negative, one is 1 or more."""
    router = ranked([[0.8, 0.6], [0.6, 0.8]], ["model_a", "model_b"])
    found = router.win_rate_from_embedding(np.float32([0.0, -1.0]))
    assert found == pytest.approx(10.0 / (10.0 + 10.0 ** (0.8 / 0.6)), abs=1e-6)
    # A quotient of 437,500: its weight is beyond any float, and all that counts.
    assert router.win_rate_from_embedding(np.float32([-1.0, 0.75 - 1e-6])) == pytest.approx(1.0, abs=1e-6)
    for precision in COMPRESSED:
        assert router.with_precision(precision).win_rate_from_embedding(np.float32([0.0, -1.0])) == found


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_largest_similarity_of_zero_is_refused_by_row(precision: str) -> None:
    router = ranked([EAST, [-1.0, 1.0], EAST], ["model_a", "model_b", "tie"], precision=precision)
    assert np.isfinite(router.win_rates_from_embeddings(rows(EAST, NORTH))).all()
    for call in (router.win_rates_from_embeddings, router.exact_win_rates_from_embeddings):
        with pytest.raises(rf.InvalidEmbeddingError, match="embedding 1 has a largest similarity of exactly 0"):
            call(rows(EAST, [0.0, -1.0]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_embedding_of_zeros_is_refused_and_a_prompt_without_words_weighs_all_battles_equally(precision: str) -> None:
    router = sw_router(precision, embedder=static_embedder(surface_features=()))
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 1 is all zeros"):
        router.win_rates_from_embeddings(np.array([[1.0] * 6, [0.0] * 6], np.float32))
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 0 is all zeros"):
        router.win_rate_from_embedding(np.zeros(6, np.float32))
    for wordless in ("", "zzz"):
        rate = router.win_rate(wordless)
        assert router.win_rates(["hello", wordless])[1] == rate
        assert router.route(wordless, rate) == router.route_batch([wordless], rate)[0]
        assert router.route(wordless, rate).is_strong
    # Equal weights: battles whose embeddings are all alike rank so as well.
    alike = ranked(
        np.ones((60, 6)), battles(60)[2], **sides(60), strong_model=PAIR.strong, weak_model=PAIR.weak, num_tiers=4
    )
    assert router.win_rate("") == pytest.approx(alike.win_rate_from_embedding(np.ones(6, np.float32)), abs=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("solver", ["exact", "routellm"])
def test_models_of_one_tier_are_equal_whatever_the_prompt(precision: str, solver: str) -> None:
    router = sw_router(precision, num_tiers=2, solver=solver)
    by_tier: dict[int, list[str]] = {}
    for name, tier in router.tiers.items():
        by_tier.setdefault(tier, []).append(name)
    first, second = next(names for names in by_tier.values() if len(names) > 1)[:2]
    equal = router.for_pair(first, second)
    assert (equal.win_rates(PROMPTS) == 0.5).all()
    assert [equal.route(prompt, 0.5).model for prompt in PROMPTS] == [first] * len(PROMPTS)


def test_tiers_without_a_model_have_no_rating() -> None:
    router = sw_router(num_tiers=200)
    assert len(set(router.tiers.values())) == len(MODELS)
    ratings = router.tier_ratings_from_embeddings(router.embedder.embed(PROMPTS))
    assert ratings.shape == (len(PROMPTS), router.num_tiers) == (len(PROMPTS), 200)
    assert set(np.flatnonzero(np.isfinite(ratings).all(axis=0))) == set(router.tiers.values())
    assert np.isnan(ratings).any(axis=0).sum() == 200 - len(MODELS)
    expected = sw_router(num_tiers=10).win_rates(PROMPTS)
    np.testing.assert_allclose(router.win_rates(PROMPTS), expected, atol=1e-6)


def test_one_decided_battle_ranks_nobody_but_by_where_routellm_stops() -> None:
    for won in ("model_a", "model_b"):
        with pytest.raises(rf.InvalidArgumentError, match=r"no finite rating difference.*solver=\"routellm\""):
            ranked([EAST], [won])
    rates = [
        ranked([EAST], [won], solver="routellm").win_rate_from_embedding(np.float32(NORTH) + np.float32(0.5))
        for won in ("model_a", "model_b")
    ]
    assert 0.0 < rates[1] < 0.01 < 0.99 < rates[0] < 1.0
    assert ranked([EAST], ["tie"]).win_rate_from_embedding(np.float32(EAST)) == 0.5


def test_a_pair_that_never_met_is_ranked_through_others_or_not_at_all() -> None:
    """s and w each draw with m: a chain. Without the second draw there is none."""
    chain = {"model_a": ["s", "m"], "model_b": ["m", "w"]}
    assert ranked([EAST, NORTH], ["tie", "tie"], **chain).win_rate_from_embedding(np.float32(EAST)) == 0.5
    with pytest.raises(rf.InvalidArgumentError, match="no finite rating difference"):
        ranked([EAST, NORTH], ["tie", "model_a"], **chain)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ties_alone_make_all_models_equal(precision: str) -> None:
    vectors = static_embedder().embed(battle_texts(60))
    options = {"strong_model": MODELS[0], "weak_model": MODELS[3], "same_tier": "ignore"}
    router = ranked(vectors, ["tie"] * 60, **sides(60), precision=precision, **options)
    np.testing.assert_allclose(router.win_rates_from_embeddings(vectors), 0.5, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_embedding_is_stored_once_and_weighs_with_each_of_its_battles(precision: str) -> None:
    router = ranked([EAST, NORTH, EAST, EAST], ["model_a", "model_b", "model_a", "tie"], precision=precision)
    assert (router.row_count, router.battle_count) == (2, 4)
    # Two wins and a tie at weight 10, a loss at weight 1.
    found = router.exact_win_rates_from_embeddings(rows(EAST))
    np.testing.assert_allclose(found, (2 * 10 + 0.5 * 10) / (3 * 10 + 1), atol=1e-9)
    assert abs(router.win_rates_from_embeddings(rows(EAST))[0] - found[0]) <= max(router.error_bound, 1e-7)


def test_battles_inside_a_tier_can_be_left_out() -> None:
    inside = {"model_a": ["s", "w"], "model_b": ["s", "w"]}
    assert ranked([EAST, NORTH], ["tie", "tie"], **inside).battle_count == 2
    with pytest.raises(rf.InvalidArgumentError, match="every battle is inside one tier"):
        ranked([EAST, NORTH], ["tie", "tie"], **inside, same_tier="ignore")
    kept, ignored = sw_router(num_tiers=2), sw_router(num_tiers=2, same_tier="ignore")
    assert 0 < ignored.battle_count < kept.battle_count == 60


def test_embeddings_that_float32_hardly_holds_are_scored() -> None:
    for factor in (1e-40, 1e-20, 1e19, 1e37):
        router = ranked(np.array([EAST, NORTH]) * factor, ["model_a", "model_b"])
        for length in (1e-40, 1.0, 1e38):
            rate = router.win_rate_from_embedding(np.float32(np.array(EAST) * length))
            assert rate == pytest.approx(10 / 11, abs=1e-6)


# --- what is refused


@pytest.mark.parametrize(
    ("embeddings", "words"),
    [
        ([EAST, [0.0, 0.0]], "embedding 1 is all zeros"),
        ([EAST, [1e-300, 0.0]], "embedding 1 is all zeros"),
        ([EAST, [np.nan, 1.0]], "nan in row 1, column 0"),
        ([EAST, [1.0, -np.inf]], "-inf in row 1, column 1"),
        ([EAST, [1e300, 1.0]], r"1e\+300 in row 1, column 0"),
        ([EAST, [1.0]], "rows of unequal lengths"),
        ([EAST], r"\(1, 2\): expected real numbers of shape \(2, 2\)"),
        ([1.0, 2.0], r"\(2, dim\), found float64 \(2,\)"),
        (3.0, r"\(2, dim\), found float64 \(\)"),
        ([[EAST, EAST]], r"found float64 \(1, 2, 2\)"),
        ([["a", "b"], ["c", "d"]], "<U1"),
        ([[1j, 1], [1, 1]], "complex"),
        ([[None, 1.0], EAST], "object"),
    ],
    ids=str,
)
def test_embeddings_that_are_none_are_refused_when_building_and_adding(embeddings: Any, words: str) -> None:
    with pytest.raises(rf.InvalidEmbeddingError, match=words):
        ranked(embeddings, ["model_a", "model_b"])
    router = ranked([EAST, NORTH], ["model_a", "model_b"])
    with pytest.raises(rf.InvalidEmbeddingError, match=words):
        router.add_battles(embeddings, ["s", "s"], ["w", "w"], ["tie", "tie"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint16])
def test_real_numbers_of_any_type_are_taken_when_building(dtype: Any) -> None:
    router = ranked(np.eye(2, dtype=dtype), ["model_a", "model_b"])
    assert router.win_rate_from_embedding(np.float32(EAST)) == pytest.approx(10 / 11, abs=1e-6)
    strided = ranked(np.eye(4, dtype=dtype)[::2, ::2], ["model_a", "model_b"])
    assert strided.win_rate_from_embedding(np.float32(EAST)) == router.win_rate_from_embedding(np.float32(EAST))


SCORERS = ["win_rates_from_embeddings", "exact_win_rates_from_embeddings", "tier_ratings_from_embeddings"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", SCORERS)
def test_queries_of_another_shape_or_type_are_refused(name: str, precision: str) -> None:
    score = getattr(sw_router(precision), name)
    for embeddings, found in (
        (np.ones((2, 9)), r"float64 \(2, 9\)"),
        (np.ones(9, np.float32), r"float32 \(9,\)"),
        (np.ones((2, 8), np.float32), r"float32 \(2, 8\)"),
        (np.ones((2, 18), np.float32)[:, ::2], "not C-contiguous"),
        ([[1.0] * 9], "list"),
    ):
        with pytest.raises(rf.InvalidEmbeddingError, match=found):
            score(embeddings)
    assert len(score(np.ones((0, 9), np.float32))) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_query_that_is_not_finite_is_refused_by_row_and_column(bad: float, threads: int) -> None:
    router = sw_router(threads=threads)
    embeddings = np.ones((7, 9), np.float32)
    embeddings[5, 3] = bad
    for name in SCORERS:
        with pytest.raises(rf.InvalidEmbeddingError, match="embedding 5 has .* in column 3"):
            getattr(router, name)(embeddings)
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 0 has"):
        router.win_rate_from_embedding(embeddings[5])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"winner": ["tie", "draw"]}, "battle 1: winner must be model_a, model_b or tie, found 'draw'"),
        ({"winner": [None, "tie"]}, "battle 0: winner .* found None"),
        ({"winner": ["tie"] * 3}, "found 2, 2 and 3"),
        ({"model_a": ["s"]}, "found 1, 2 and 2"),
        ({"model_a": [], "model_b": [], "winner": []}, "at least one"),
        ({"model_b": ["w", float("nan")]}, "by name, found nan"),
        ({"model_a": ["s", 7]}, "by name, found 7"),
    ],
    ids=str,
)
def test_battles_that_are_none_are_named(change: dict[str, Any], words: str) -> None:
    given = {"model_a": ["s", "s"], "model_b": ["w", "w"], "winner": ["model_a", "model_b"], **change}
    with pytest.raises(rf.InvalidArgumentError, match=words):
        ranked([EAST, NORTH], **given)
    router = ranked([EAST, NORTH], ["model_a", "model_b"])
    with pytest.raises(rf.InvalidArgumentError, match=words):
        router.add_battles([EAST, NORTH], **given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"num_tiers": count}, "from 2 to 255") for count in (1, 0, -2, 256, True, 2.0, "10", None)),
        ({"precision": "float64"}, "one of float32, int8, moments, found 'float64'"),
        ({"same_tier": None}, "one of routellm, ignore, found None"),
        ({"solver": "newton"}, "one of exact, routellm, found 'newton'"),
        ({"threads": 0}, "from 1 to 1024, found 0"),
        *(
            ({"precision": precision, "pca_dim": dim}, f"from 1 to the embeddings' 9 dimensions, found {dim}")
            for precision in COMPRESSED
            for dim in (0, -1, 10)
        ),
    ],
    ids=str,
)
def test_options_out_of_their_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(rf.InvalidArgumentError, match=words):
        sw_router(**options)


def test_a_model_without_battles_is_named_with_those_that_are_close() -> None:
    with pytest.raises(rf.UnknownModelError, match=r"no battle .* 'strong-modle'.* Did you mean strong-model"):
        sw_router(strong_model="strong-modle")
    with pytest.raises(rf.UnknownModelError, match="the router has no battle of the model 'zzz', only 4 others"):
        sw_router().for_pair("strong-model", "zzz")


def test_an_embedder_of_another_dimension_is_refused() -> None:
    with pytest.raises(rf.InvalidEmbeddingError, match="embedding 0 is all zeros"):
        ranked(np.zeros((1, 0)), ["tie"])
    with pytest.raises(rf.EmbedderMismatchError, match="the bank has 2 dimensions, the embedder makes 9"):
        ranked([EAST, NORTH], ["model_a", "model_b"], embedder=static_embedder())


def test_a_router_without_embedder_scores_embeddings_only() -> None:
    router = ranked([EAST, NORTH], ["model_a", "model_b"])
    for call in (lambda: router.win_rate("x"), lambda: router.route("x", 0.5), lambda: router.route_batch(["x"], 0.5)):
        with pytest.raises(rf.EmbedderUnavailableError, match="embeddings only"):
            call()


# --- battles added, pairs and precisions changed


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("same_tier", ["routellm", "ignore"])
def test_added_battles_count_in_the_new_router_and_not_in_the_old_one(precision: str, same_tier: str) -> None:
    options = {"num_tiers": 3, "same_tier": same_tier}
    old = sw_router(precision, count=20, **options)
    before = old.win_rates(PROMPTS)
    # Later battles end as none did before: new cells.
    grown = sw_router(precision, count=20, added=(30, 1, 9), **options)
    np.testing.assert_array_equal(old.win_rates(PROMPTS), before)
    assert (grown.tiers, grown.precision, grown.same_tier) == (old.tiers, precision, same_tier)
    assert len(grown._cells) > len(old._cells)
    queries = old.embedder.embed(PROMPTS)
    truth = SimilarityWeighted(
        old.embedder.embed(battle_texts(60)), *battles(60), num_tiers=3, same_tier=same_tier, tiers=old.tiers
    )
    assert grown.battle_count == truth.kept.sum()
    expected = truth.win_rates(queries, *PAIR)
    assert np.abs(expected - old.exact_win_rates_from_embeddings(queries)).max() > 1e-3
    np.testing.assert_allclose(grown.exact_win_rates_from_embeddings(queries), expected, atol=1e-6)
    assert np.abs(grown.win_rates(PROMPTS) - expected).max() <= max(2 * grown.error_bound, 1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_blocks_can_be_added_in_any_order(precision: str) -> None:
    router = sw_router(precision, count=30)
    vectors, told = router.embedder.embed(battle_texts(60)), battles(60)
    parts = [(vectors[part], *(column[part] for column in told)) for part in (slice(30, 50), slice(50, 60))]
    one, other = (router.add_battles(*first).add_battles(*second) for first, second in (parts, parts[::-1]))
    np.testing.assert_allclose(one.win_rates(PROMPTS), other.win_rates(PROMPTS), atol=1e-6)
    assert one.battle_count == other.battle_count == 60


@pytest.mark.parametrize("precision", PRECISIONS)
def test_battles_that_cannot_be_added_are_refused(precision: str) -> None:
    router = sw_router(precision)
    vectors = router.embedder.embed(["hello", "write"])
    with pytest.raises(rf.UnknownModelError, match="no tier for 'new' and 1 more"):
        router.add_battles(vectors, ["new", MODELS[0]], [MODELS[0], "newer"], ["tie", "tie"])
    with pytest.raises(rf.UnknownModelError, match="no tier for 'new': "):
        router.add_battles(vectors[:1], ["new"], [MODELS[0]], ["tie"])
    with pytest.raises(rf.InvalidEmbeddingError, match="bank has 9 dimensions, the new embeddings 8"):
        router.add_battles(vectors[:, :8], *battles(2))
    inside = [MODELS[0]], [MODELS[0]], ["tie"]
    assert router.add_battles(vectors[:1], *inside).battle_count == 61
    with pytest.raises(rf.InvalidArgumentError, match="every battle is inside one tier"):
        sw_router(precision, same_tier="ignore").add_battles(vectors[:1], *inside)


def test_a_pair_that_could_not_be_ranked_can_be_after_more_battles() -> None:
    router = ranked([EAST, NORTH], ["model_a", "model_a"], solver="routellm")
    grown = router.add_battles([NORTH], ["s"], ["w"], ["model_b"])
    assert grown.win_rate_from_embedding(np.float32(EAST)) == pytest.approx(11 / 12, abs=1e-3)
    exact = ranked([EAST, NORTH, NORTH], ["model_a", "model_a", "model_b"])
    assert exact.win_rate_from_embedding(np.float32(EAST)) == pytest.approx(11 / 12, abs=1e-6)


def test_what_no_longer_holds_is_dropped() -> None:
    calibration = rf.Calibration("test prompts", 3, ((0.0, 1.0), (0.5, 0.4), (1.0, 0.0)))
    router = sw_router(calibration=calibration, provenance={"created": "2026-11-25"}, model_card="# Tiny\n")
    assert router.threshold_for(0.5) == 0.4
    vectors = router.embedder.embed(["hello"])
    for other in (router.for_pair(*MODELS[2:]), router.add_battles(vectors, [MODELS[0]], [MODELS[1]], ["tie"])):
        assert other.calibration is None
        with pytest.raises(rf.InvalidArgumentError, match="no calibration"):
            other.threshold_for(0.5)
        assert other.embedder is router.embedder
    # Decisions of all precisions are the same, and so are their shares.
    assert router.with_precision("int8").calibration == calibration


@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_pair_can_be_scored_and_any_names_routed_to(precision: str) -> None:
    router = sw_router(precision)
    other = router.for_pair("spare-model", "weak-model")
    assert other.scoring_pair == other.model_pair == ("spare-model", "weak-model")
    direct = sw_router(precision, strong_model="spare-model", weak_model="weak-model")
    np.testing.assert_allclose(other.win_rates(PROMPTS), direct.win_rates(PROMPTS), atol=1e-7)
    np.testing.assert_array_equal(other.for_pair(*PAIR).win_rates(PROMPTS), router.win_rates(PROMPTS))
    renamed = sw_router(precision, model_pair=rf.ModelPair("big", "small"))
    assert (renamed.scoring_pair, renamed.route("hello", 0.0).model) == (PAIR, "big")
    np.testing.assert_array_equal(renamed.win_rates(PROMPTS), router.win_rates(PROMPTS))


def test_precisions_can_be_changed_back_and_forth() -> None:
    exact = sw_router(added=(9,))
    for precision in COMPRESSED:
        compressed = exact.with_precision(precision)
        assert compressed.error_bound > exact.error_bound == 0.0
        assert compressed.bytes_per_query > 0
        np.testing.assert_array_equal(compressed.with_precision("float32").win_rates(PROMPTS), exact.win_rates(PROMPTS))
        for other in COMPRESSED:
            np.testing.assert_array_equal(
                compressed.with_precision(other).win_rates(PROMPTS), exact.with_precision(other).win_rates(PROMPTS)
            )
        assert np.abs(compressed.win_rates(PROMPTS) - exact.win_rates(PROMPTS)).max() <= compressed.error_bound
    with pytest.raises(rf.InvalidArgumentError, match="found 'bfloat16'"):
        exact.with_precision("bfloat16")


@pytest.mark.parametrize("dim", [1, 2, 5, 9])
@pytest.mark.parametrize("precision", COMPRESSED)
def test_fewer_dimensions_are_less_precise_and_decide_the_same(precision: str, dim: int) -> None:
    exact = sw_router()
    compressed = exact.with_precision(precision, pca_dim=dim)
    texts = [*PROMPTS, *battle_texts(20)]
    rates = exact.win_rates(texts)
    assert np.abs(compressed.win_rates(texts) - rates).max() <= compressed.error_bound
    for threshold in [*np.linspace(0.0, 1.0, 41), *rates.tolist(), *np.nextafter(rates, np.float32(1)).tolist()]:
        expected = exact.route_batch(texts, threshold)
        found = compressed.route_batch(texts, threshold)
        assert [decision.is_strong for decision in found] == [decision.is_strong for decision in expected]
        assert [compressed.route(text, threshold) for text in texts] == found


@pytest.mark.parametrize("precision", COMPRESSED)
def test_a_win_rate_near_the_threshold_is_computed_exactly(precision: str) -> None:
    exact, compressed = sw_router(), sw_router(precision, pca_dim=2)
    rate, rough = exact.win_rate("hello"), compressed.win_rate("hello")
    assert rate != rough
    assert compressed.route("hello", rate).win_rate == rate
    far = rough + 2.0 * compressed.error_bound + 0.01
    assert compressed.route("hello", far).win_rate == rough


@pytest.mark.parametrize("precision", COMPRESSED)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_banks_of_a_few_battles_can_be_compressed(precision: str, count: int) -> None:
    vectors = np.eye(3)[:count] + 0.1
    exact = ranked(vectors, ["tie", "model_a", "model_b"][:count], solver="routellm")
    compressed = exact.with_precision(precision)
    queries = np.float32(np.eye(3) + 0.3)
    error = np.abs(compressed.win_rates_from_embeddings(queries) - exact.win_rates_from_embeddings(queries))
    assert error.max() <= compressed.error_bound


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads_may_ask_while_another_adds(precision: str) -> None:
    router = sw_router(precision, count=30)
    vectors, told = router.embedder.embed(battle_texts(60)), battles(60)
    alone = [router.win_rates(PROMPTS)]
    for i in range(30, 60):
        alone.append(
            router.add_battles(vectors[30 : i + 1], *(column[30 : i + 1] for column in told)).win_rates(PROMPTS)
        )
    versions = [router]

    def ask(_: int) -> bool:
        version = len(versions) - 1
        rates, first = versions[version].win_rates(PROMPTS), router.win_rates(PROMPTS)
        return np.allclose(rates, alone[version], atol=1e-6) and np.array_equal(first, alone[0])

    with ThreadPoolExecutor(4) as pool:
        asked = pool.map(ask, range(300))
        for i in range(30, 60):
            versions.append(versions[-1].add_battles(vectors[i : i + 1], *(column[i : i + 1] for column in told)))
        assert all(asked)
    assert len(versions) == len(alone)


# --- directories


@pytest.fixture(params=PRECISIONS)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "router"
    sw_router(request.param, added=(9,), provenance={"created": "2026-11-25"}, model_card="# Tiny\n").save(path)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def rewrite(path: Path, alter: Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], object]) -> None:
    """Write the directory again with other settings, tensors or mapped tensors, and digests that fit."""
    artifact = read_artifact(path, ROUTER_LAYOUT)
    settings = json.loads(json.dumps(artifact.manifest["settings"]))
    tensors, mapped = dict(artifact.tensors), dict(artifact.mapped)
    alter(settings, tensors, mapped)
    changed = replace(artifact, manifest={**artifact.manifest, "settings": settings}, tensors=tensors, mapped=mapped)
    write_artifact(path, changed, ROUTER_LAYOUT)


def patch(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at, 2 if at < 0 else 0)
        file.write(content)


def loaded(path: Path, **options: Any) -> SimilarityWeightedRouter:
    router = rf.load_router(path, **options)
    assert isinstance(router, SimilarityWeightedRouter)
    return router


def test_save_then_load_is_the_same_router(saved: Path, tmp_path: Path) -> None:
    router = loaded(saved)
    original = sw_router(router.precision, added=(9,))
    np.testing.assert_array_equal(router.win_rates(PROMPTS), original.win_rates(PROMPTS))
    embeddings = router.embedder.embed(PROMPTS)
    for name in SCORERS:
        np.testing.assert_array_equal(getattr(router, name)(embeddings), getattr(original, name)(embeddings))
    for attribute in ("tiers", "ratings", "battle_count", "row_count", "dim", "num_tiers", "error_bound", "facts"):
        assert getattr(router, attribute) == getattr(original, attribute)
    assert (router.provenance, router.model_card) == ({"created": "2026-11-25"}, "# Tiny\n")
    router.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(saved)


def test_a_loaded_router_can_be_changed_as_one_that_was_built(saved: Path) -> None:
    router = loaded(saved)
    built = sw_router(router.precision, added=(9,))
    more = router.embedder.embed(["hello { } ?"]), ["spare-model"], ["weak-model"], ["tie"]
    for change in (
        lambda r: r.add_battles(*more),
        lambda r: r.for_pair("other-model", "weak-model"),
        lambda r: r.with_precision("float32"),
        lambda r: r.with_precision("moments", pca_dim=4),
    ):
        np.testing.assert_array_equal(change(router).win_rates(PROMPTS), change(built).win_rates(PROMPTS))


def test_loading_may_rename_the_models_that_prompts_go_to(saved: Path) -> None:
    renamed = loaded(saved, strong_model="huge", weak_model="tiny")
    assert (renamed.model_pair, renamed.scoring_pair) == (("huge", "tiny"), PAIR)
    assert renamed.route("hello", 1.0).model == "tiny"
    np.testing.assert_array_equal(renamed.win_rates(PROMPTS), loaded(saved).win_rates(PROMPTS))


def test_saving_over_the_directory_it_was_loaded_from_disturbs_nobody(saved: Path) -> None:
    first = loaded(saved)
    rates = first.win_rates(PROMPTS)
    grown = first.add_battles(first.embedder.embed(["a b c"] * 3), *battles(3))
    grown.save(saved)
    again = loaded(saved)
    assert again.battle_count == first.battle_count + 3
    np.testing.assert_array_equal(again.win_rates(PROMPTS), grown.win_rates(PROMPTS))
    np.testing.assert_array_equal(first.win_rates(PROMPTS), rates)
    first.save(saved)
    np.testing.assert_array_equal(loaded(saved).win_rates(PROMPTS), rates)


def test_the_embedder_that_loading_is_given_must_be_the_one_of_the_bank(saved: Path) -> None:
    assert loaded(saved, embedder=static_embedder()).win_rate("hello") == loaded(saved).win_rate("hello")
    with pytest.raises(rf.EmbedderMismatchError, match="fingerprint"):
        loaded(saved, embedder=static_embedder(normalize=True))


def test_a_bank_with_a_value_that_is_not_finite_loads_and_scoring_it_is_an_error(saved: Path) -> None:
    patch(saved / "bank.safetensors", -4, np.float32(np.nan).tobytes())
    router = loaded(saved)
    with pytest.raises(rf.RouteLLMError, match="not finite.*info ROUTER --verify"):
        router.exact_win_rates_from_embeddings(router.embedder.embed(PROMPTS))
    if router.precision == "float32":
        with pytest.raises(rf.RouteLLMError, match="not finite"):
            router.route("hello", 0.5)
    assert run_cli("info", str(saved)).returncode == 0
    assert_refused(run_cli("info", str(saved), "--verify"), "bank.safetensors", "sha256")


def test_mapped_files_that_are_missing_cut_off_or_another_s_are_refused(saved: Path, tmp_path: Path) -> None:
    for name in sorted(read_artifact(saved, ROUTER_LAYOUT).mapped):
        for damage in ("cut", "lengthened", "missing", "swapped"):
            path = shutil.copytree(saved, tmp_path / f"{name}-{damage}")
            file = path / f"{name}.safetensors"
            if damage == "cut":
                file.write_bytes(file.read_bytes()[:-4])
            elif damage == "lengthened":
                file.write_bytes(file.read_bytes() + b"\0" * 4)
            elif damage == "missing":
                file.unlink()
            else:
                other = path / (f"{name}.1.safetensors" if "." not in name else f"{name.split('.')[0]}.safetensors")
                files = file.read_bytes(), other.read_bytes()
                other.write_bytes(files[0])
                file.write_bytes(files[1])
            expected = rf.ArtifactNotFoundError if damage == "missing" else rf.ArtifactIntegrityError
            with pytest.raises(expected, match=file.stem.split(".")[0]):
                loaded(path)


def test_equally_large_banks_that_were_swapped_are_refused_by_their_headers(tmp_path: Path) -> None:
    vectors = np.random.default_rng(5).normal(size=(40, 3))
    model_a, model_b, winner = battles(40)
    router = ranked(vectors[:20], winner[:20], **sides(20), strong_model=MODELS[0], weak_model=MODELS[1])
    router.add_battles(vectors[20:], model_a[20:], model_b[20:], winner[20:]).save(tmp_path / "router")
    one, other = (tmp_path / "router" / f"{name}.safetensors" for name in ("bank", "bank.1"))
    files = one.read_bytes(), other.read_bytes()
    assert len(files[0]) == len(files[1])
    one.write_bytes(files[1])
    other.write_bytes(files[0])
    with pytest.raises(rf.ArtifactFormatError, match="bank"):
        loaded(tmp_path / "router")


SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("float32", {"models": "abcd"}, "models must be a list of names, found a string"),
    ("float32", {"models": ["a", "b", "c", 4]}, "models must be a list of names, found a number in it"),
    (
        "float32",
        {"models": ["a", "b", "c"], "scoring_pair": {"strong": "a", "weak": "b"}},
        r"needs tiers, uint16 \(3,\)",
    ),
    ("float32", {"models": ["a", "b", "c", "d"]}, "strong-model, is none of the 4 models"),
    ("float32", {"models": ["a", "a", "c", "d"]}, "must be distinct"),
    ("float32", {"num_tiers": 1}, "2 to 255 tiers"),
    ("float32", {"num_tiers": 2}, "tiers 0 to 1"),
    ("float32", {"num_tiers": "4"}, "settings hold"),
    ("float32", {"same_tier": "maybe"}, 'one of routellm, ignore, found "maybe"'),
    ("float32", {"solver": "guess"}, 'one of exact, routellm, found "guess"'),
    ("float32", {"scoring_pair": {"strong": "strong-model"}}, "scoring_pair holds strong and weak"),
    ("float32", {"scoring_pair": {"strong": "strong-model", "weak": 3}}, "the weak model of the scoring pair is none"),
    ("float32", {"scoring_pair": {"strong": "strong-model", "weak": "x"}}, "the weak model of the scoring pair, x,"),
    ("float32", {"blocks": 0}, "at least one block"),
    ("float32", {"blocks": 3}, r"needs bank\.2, float32 \(n, n\); found nothing"),
    ("float32", {"compression": "int8"}, "settings hold"),
    ("float32", {"compression": {}}, "a compression has a precision"),
    ("float32", {"surplus": 1}, "settings hold"),
    ("int8", {"compression": {"precision": ["int8"]}}, "a compression has a precision"),
    ("int8", {"compression": {"precision": "moments", "left_out": 0.1, "error_bound": 0.1, "reach": 0.1}}, "centroids"),
    *(
        ("int8", {"compression": {"precision": "int8", "left_out": 0.1, "error_bound": value, "reach": 0.1}}, "number")
        for value in (-0.1, True, None, "0.1", 10**300, 1e300)
    ),
]


@pytest.mark.parametrize(("precision", "change", "words"), SETTINGS, ids=str)
def test_settings_that_break_the_format_are_refused(
    precision: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    sw_router(precision, added=(9,)).save(tmp_path / "router")
    rewrite(tmp_path / "router", lambda settings, tensors, mapped: settings.update(change))
    with pytest.raises(rf.ArtifactFormatError, match=words):
        loaded(tmp_path / "router")


# What a tensor must not be: a name, and what is made of it.
TENSORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one less": lambda tensor: tensor[1:],
    "another type": lambda tensor: tensor.astype(np.int16),
    "another axis": lambda tensor: tensor[None],
    "nothing": lambda tensor: tensor[:0],
    "a scalar": lambda tensor: np.ones((), tensor.dtype),
}


@pytest.mark.parametrize("fault", TENSORS)
def test_tensors_of_another_shape_or_type_are_refused(saved: Path, fault: str, tmp_path: Path) -> None:
    artifact = read_artifact(saved, ROUTER_LAYOUT)
    # A block may repeat nothing; and fewer entries of three tensors that say so together are no fault of the shape.
    empty = {name for name, tensor in artifact.tensors.items() if tensor.size == 0}
    for name in sorted({*artifact.tensors, *artifact.mapped} - empty):
        if name.startswith("embedder."):
            continue
        path = shutil.copytree(saved, tmp_path / name)

        def alter(_: object, tensors: dict[str, Any], mapped: dict[str, Any], name: str = name) -> None:
            where = tensors if name in tensors else mapped
            where[name] = TENSORS[fault](where[name])

        rewrite(path, alter)
        with pytest.raises(rf.ArtifactFormatError):
            loaded(path)


@pytest.mark.parametrize(
    ("precision", "name", "value", "words"),
    [
        ("float32", "cell_a", 5, "a tier outside 0 to 3"),
        ("float32", "cell_outcome", 3, "outcome"),
        ("float32", "cell_battles", 0, r"holds 1 to 2\^53 battles"),
        ("int8", "cell_battles", -3, r"holds 1 to 2\^53 battles"),
        ("float32", "norms", 0, "length must be positive"),
        ("float32", "row_cells.1", 1000, "belongs to cell 1000"),
        ("float32", "repeat_rows", 1000, "belongs to row 1000"),
        ("float32", "repeat_cells", 1000, "belongs to cell 1000"),
        ("float32", "repeat_battles", -1, "repeat_battles counts battles"),
        ("int8", "axes", 1e30, "axes is of unit embeddings"),
        ("moments", "axes_mean", -5.0, "axes_mean is of unit embeddings"),
        ("moments", "centroids", 1e30, "centroids is of unit embeddings"),
        ("moments", "cluster_panels", 1, "clusters do not fit the bank"),
        ("moments", "cluster_rows", 1000, "do not fit the bank"),
        ("moments", "cluster_cells.1", 1000, "do not fit the bank"),
    ],
)
def test_tensors_whose_values_cannot_be_are_refused(
    precision: str, name: str, value: float, words: str, tmp_path: Path
) -> None:
    sw_router(precision, added=(9,)).save(tmp_path / "router")

    def alter(_: object, tensors: dict[str, Any], mapped: object) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][0] = value

    rewrite(tmp_path / "router", alter)
    with pytest.raises(rf.ArtifactFormatError, match=words):
        loaded(tmp_path / "router")


def test_a_tensor_that_is_missing_is_named(saved: Path, tmp_path: Path) -> None:
    artifact = read_artifact(saved, ROUTER_LAYOUT)
    for name in sorted({*artifact.tensors, *artifact.mapped}):
        if name.startswith("embedder."):
            continue
        path = tmp_path / name
        tensors, mapped = dict(artifact.tensors), dict(artifact.mapped)
        (tensors if name in tensors else mapped).pop(name)
        write_artifact(path, Artifact(artifact.manifest, tensors, artifact.files, mapped=mapped), ROUTER_LAYOUT)
        with pytest.raises(rf.ArtifactFormatError, match=name):
            loaded(path)


# --- the command line


def test_the_command_line_routes_by_it_and_shows_it(saved: Path) -> None:
    router = loaded(saved)
    run = run_cli("route", "--router", str(saved), "--jsonl", "--threshold", "0.47", "hello", "")
    assert run.returncode == 0, run.stderr
    for record in map(json.loads, run.stdout.splitlines()):
        decision = router.route(record["prompt"], 0.47)
        assert (record["model"], record["is_strong"]) == (decision.model, decision.is_strong)
        assert record["win_rate"] == pytest.approx(decision.win_rate, abs=1e-6)
    facts = json.loads(run_cli("info", str(saved), "--json").stdout)
    assert {key: facts[key] for key in router.facts} == router.facts
    assert (facts["kind"], facts["precision"], facts["error bound"]) == (
        "sw_ranking",
        router.precision,
        router.error_bound,
    )
    assert facts["tensors"]["bank.1"] == "float32 (9, 9), mapped"
    shown = run_cli("info", str(saved), "--verify").stdout
    for words in ("69 of 4 models in 4 tiers", router.precision, "every digest as recorded"):
        assert words in shown


def test_a_compressed_form_of_values_that_are_none_is_named_when_its_error_is_measured() -> None:
    router = sw_router(precision="int8")
    form = router._compressed
    spoilt = router._replaced(compressed=replace(form, axes=replace(form.axes, mean=form.axes.mean * np.nan)))
    with pytest.raises(rf.ArtifactIntegrityError, match="with_precision"):
        spoilt.for_pair(MODELS[1], MODELS[2])
