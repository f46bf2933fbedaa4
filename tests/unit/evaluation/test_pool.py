from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from routellm_fast.errors import DataError, InvalidArgumentError, InvalidThresholdError, UnknownModelError
from routellm_fast.evaluation._cost_curves import cost_of, hull, mean_quality, quality_at
from routellm_fast.evaluation.pool import evaluate_pool, pool_rows, pool_table, pool_verdict, priced_pool
from routellm_fast.pool import ModelPool, PoolModel
from tests.support.pool_builders import NAMES, labelled, written_pool, written_router

ROWS = [
    labelled("0 -1 -2", (1, 0, 0)),
    labelled("-1 0 0 longer", (0, 1, 1)),
    labelled("-2 -2 0 the longest", (1, 0, 1)),
    labelled("1 0 -1", (1, 1, 0)),
]
TAUS = (0.5, 0.75, 1.0)
NAN = math.nan


def result(rows=ROWS, **options):
    return evaluate_pool(written_pool(), rows, **{"taus": TAUS, "resamples": 50, **options})


def test_every_tau_scores_and_costs_what_its_choices_do():
    found = result().curve
    assert [point.tau for point in found] == [1.0, 0.75, 0.5]
    assert [point.quality.value for point in found] == [0.5, 0.75, 1.0]
    assert [point.cost_usd_per_1k.value for point in found] == [1.0, 1.5, 5.5]
    assert [dict(point.shares) for point in found] == [
        {"small": 1.0},
        {"small": 0.5, "middle": 0.5},
        {"small": 0.5, "large": 0.5},
    ]
    # The same shares at random: half small (1/2) and half large (3/4).
    assert [point.shuffled_quality for point in found] == [0.5, 0.5, 0.625]


def test_single_models_mixture_and_oracle():
    found = result()
    assert [(m.name, m.quality.value, m.cost_usd_per_1k.value) for m in found.models] == [
        ("small", 0.5, 1.0),
        ("middle", 0.5, 2.0),
        ("large", 0.75, 10.0),
    ]
    assert (found.best_single, found.cheapest, found.mixture) == ("large", "small", ("small", "large"))
    # large, small (as good as middle), small (as good as large), middle (as good as large)
    assert (found.oracle.quality.value, found.oracle.cost_usd_per_1k.value) == (1.0, (10 + 1 + 1 + 2) / 4)


def test_areas_are_mean_qualities_from_the_cheapest_to_the_dearest():
    found = result()
    # From (1, 1/2) over (1.5, 3/4) and (5.5, 1), then level to 10.
    area = (0.5 * 0.625 + 4.0 * 0.875 + 4.5 * 1.0) / 9.0
    assert found.area.value == pytest.approx(area)
    assert found.aiq.value == pytest.approx(area)  # the curve is concave as it is
    assert found.mixture_aiq.value == pytest.approx(0.625)
    assert found.area_gain.value == pytest.approx(area - 0.625)
    assert found.aiq_gain.value == pytest.approx(area - 0.625)
    # Longest first to large: the third prompt keeps its 1, the second loses its 1, then two win theirs.
    length = 2.25 * ((0.5 + 0.5) + (0.5 + 0.25) + (0.25 + 0.5) + (0.5 + 0.75)) / 2 / 9
    assert found.length_area.value == pytest.approx(length)
    assert found.length_gain.value == pytest.approx(area - length)


def test_what_a_share_of_the_best_models_cost_buys():
    found = {at.cost_share: at for at in result().at_cost}
    assert found[0.1].quality_share.value == pytest.approx(0.5 / 0.75)
    assert found[0.25].quality_share.value == pytest.approx((0.75 + 0.25 * (2.5 - 1.5) / 4.0) / 0.75)
    assert found[0.25].mixture_quality_share.value == pytest.approx((0.5 + 0.25 * 1.5 / 9.0) / 0.75)
    dear = evaluate_pool(written_pool({"large": 10.0, "middle": 2.0, "small": 1.5}), ROWS, taus=TAUS, resamples=1)
    assert [at.cost_share for at in dear.at_cost] == [0.25, 0.5, 0.75]  # a tenth buys nothing


def test_what_a_share_of_the_best_models_quality_costs():
    found = {at.quality_share: at for at in result().at_quality}
    assert found[0.9].cost_share.value == pytest.approx((1.0 + 0.5 * (0.675 - 0.5) / 0.25) / 10.0)
    assert found[0.9].mixture_cost_share.value == pytest.approx((1.0 + 9.0 * (0.675 - 0.5) / 0.25) / 10.0)
    assert found[1.0].cost_share.value == pytest.approx(0.15)
    assert found[1.0].mixture_cost_share.value == pytest.approx(1.0)
    poor = result(taus=[1.0])
    assert [at.cost_share.value for at in poor.at_quality] == [1.0] * 4  # the best model itself is at hand


def test_recorded_costs_are_paid_where_all_rows_have_them():
    costs = {"large": 0.02, "middle": 0.004, "small": 0.001}
    recorded = [replace(row, costs=costs) for row in ROWS]
    found = result(recorded)
    assert found.costs == "measured"
    assert found.curve[-1].cost_usd_per_1k.value == pytest.approx(1000 * (0.02 + 0.001 + 0.001 + 0.02) / 4)
    assert [point.shares for point in found.curve] == [point.shares for point in result().curve]
    assert result([replace(ROWS[0], costs={}), *recorded[1:]]).costs == "priced"


def test_rows_on_which_a_model_was_not_run_are_left_out_and_counted():
    found = result([*ROWS, labelled("5 5 5", (1, NAN, 1)), labelled("6 6 6", (NAN, 1, 1))])
    assert (found.prompts, found.dropped) == (4, 2)
    assert replace(found, dropped=0) == result()


def test_models_are_found_by_either_name():
    models = [PoolModel("mine", 10.0, scored_as="large"), PoolModel("middle", 2.0), PoolModel("small", 1.0)]
    found = evaluate_pool(ModelPool(written_router(), models), ROWS, taus=TAUS, resamples=50)
    assert found.best_single == "mine"
    assert found.area == result().area


def test_intervals_are_drawn_over_groups_and_repeat():
    found = result()
    assert found == result()
    assert found != result(seed=1)
    assert found.area.low < found.area.value < found.area.high
    assert found.groups == 4
    together = result([replace(row, group="one") for row in ROWS])
    assert (together.groups, together.area.low, together.area.high) == (1, together.area.value, together.area.value)


def test_taus_of_its_own_run_from_the_cheapest_to_the_best():
    found = evaluate_pool(written_pool(), ROWS, resamples=10)
    assert (found.curve[0].tau, found.curve[-1].tau) == (1.0, 0.5)
    costs = [point.cost_usd_per_1k.value for point in found.curve]
    assert costs == sorted(costs)
    assert {1.0, 1.5, 5.5} <= set(costs)
    assert evaluate_pool(written_pool(), [labelled("0 0 0", (1, 1, 0))], resamples=1).curve[0].shares == {"small": 1.0}
    named = evaluate_pool(written_pool(best_model="large"), ROWS, resamples=10)
    assert named.best_model == "large"
    assert named.curve[-1].shares == {"large": 1.0}


def test_the_record_is_json_and_the_table_names_everybody():
    found = result(name="hand")
    assert json.loads(json.dumps(found.to_json()))["curve"][0]["tau"] == 1.0
    table = pool_table(found)
    for words in (
        "pool, tau = 0.7500",
        "large alone (best single model)",
        "small alone (cheapest)",
        "oracle",
        "| 133.3 % |",
    ):
        assert words in table


def test_a_pool_priced_by_the_rows():
    rows = [replace(ROWS[0], costs={"large": 0.01, "small": 0.001}), replace(ROWS[1], costs={"large": 0.03})]
    pool = priced_pool(written_router(), rows)
    assert [(model.name, model.cost_usd_per_1k) for model in pool.models] == [("small", 1.0), ("large", 20.0)]
    assert priced_pool(written_router(), rows, best_model="large").best_model == "large"
    with pytest.raises(DataError, match="no cost of middle"):
        priced_pool(written_router(), rows, models=["middle", "small"])
    with pytest.raises(DataError, match="no cost of any model"):
        priced_pool(written_router(), ROWS)
    with pytest.raises(UnknownModelError, match="'other'"):
        priced_pool(written_router(), [replace(rows[0], costs={"other": 1.0, "large": 2.0})], models=["other", "large"])


def test_rows_that_show_nothing():
    with pytest.raises(DataError, match="no row has a score of small; there are large, middle"):
        result([labelled("0 0 0", (1, 1), NAMES[:2])])
    with pytest.raises(DataError, match="no rows"):
        result([])
    with pytest.raises(DataError, match="of 2 rows none has scores of all"):
        result([labelled("0 0 0", (1, 1, NAN)), labelled("0 0 1", (NAN, 1, 1))])
    with pytest.raises(DataError, match="all models of the pool cost 2"):
        evaluate_pool(written_pool(dict.fromkeys(NAMES, 2.0)), ROWS)
    with pytest.raises(InvalidArgumentError, match="resamples = 0"):
        result(resamples=0)
    with pytest.raises(InvalidArgumentError, match="at least one tau"):
        result(taus=[])
    with pytest.raises(InvalidThresholdError, match=r"tau 0\.2"):
        result(taus=[0.2])


def test_a_pool_whose_models_all_fail():
    found = result([labelled("0 -1 -2", (0, 0, 0)), labelled("-1 0 0", (0, 0, 0))])
    assert found.area.value == 0.0
    assert found.best_single == "small"  # the cheaper of equals
    assert found.at_cost == ()  # a share of no quality is none
    assert "nan" not in pool_table(found)
    json.dumps(found.to_json(), allow_nan=False)


def test_the_hull_leaves_out_what_a_mixture_beats():
    cost = np.array([3.0, 1.0, 2.0, 2.5, 4.0, 1.0, 5.0])
    quality = np.array([0.8, 0.2, 0.3, 0.75, 0.8, 0.4, 0.75])
    assert hull(cost, quality).tolist() == [5, 3, 0]
    assert hull(np.array([1.0]), np.array([0.5])).tolist() == [0]
    assert hull(np.array([1.0, 2.0, 3.0]), np.array([0.25, 0.5, 0.75])).tolist() == [0, 2]  # on one line


def test_curves_are_straight_between_points_and_level_beyond():
    cost, quality = np.array([3.0, 1.0]), np.array([1.0, 0.0])
    assert mean_quality(cost, quality, 1.0, 3.0) == 0.5
    assert mean_quality(cost, quality, 1.0, 5.0) == 0.75
    assert mean_quality(cost, quality, 2.0, 3.0) == 0.75
    assert quality_at(cost, quality, 2.0) == 0.5
    assert math.isnan(quality_at(cost, quality, 0.9))
    assert cost_of(cost, quality, 0.25) == 1.5
    assert cost_of(cost, quality, -1.0) == 1.0
    assert cost_of(cost, quality, 1.1) == math.inf


def test_what_one_single_model_dominates_is_marked():
    # middle is as good as large on every prompt, at a fifth of the cost.
    rows = [labelled(row.prompt, (row.scores["small"], 1, row.scores["small"])) for row in ROWS]
    found = result(rows)
    assert found.best_single == "middle"
    assert [(model.name, model.dominated_by) for model in found.models] == [
        ("small", None),
        ("middle", None),
        ("large", "middle"),
    ]
    # At tau 1 the pool is small, and not dominated by itself; at 0.5 half of the prompts go to large.
    assert [point.dominated_by for point in found.curve] == [None, None, "middle"]
    assert found.oracle.dominated_by is None
    assert [point.dominated_by for point in result().curve] == [None, None, None]
    assert json.loads(json.dumps(found.to_json()))["curve"][2]["dominated_by"] == "middle"


def test_the_best_single_model_is_the_first_line():
    found = result()
    assert pool_verdict(found)[0].startswith("best single model: large, quality 0.750 [")
    assert pool_verdict(found)[2].startswith("dominated: at 0 of 3 values of tau")
    table = pool_rows(found)
    assert table.rows[0][0] == "large alone (best single model)"
    assert [row[0] for row in table.rows].count("large alone (best single model)") == 1
    assert table.head[-1] == "dominated by"


def test_the_verdict_on_a_pool_says_whether_it_beats_a_mixture():
    # The written logits are the scores: the pool knows everything. Turned round, it knows less than nothing.
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 2, size=(200, 3)).astype(float)
    rows = [labelled(" ".join(f"{value:.0f}" for value in row), row, group=str(i)) for i, row in enumerate(scores)]
    turned = [
        labelled(" ".join(f"{1 - value:.0f}" for value in row), row, group=str(i)) for i, row in enumerate(scores)
    ]
    assert "mixture of its models: better (+" in pool_verdict(result(rows))[1]
    assert "mixture of its models: worse (-" in pool_verdict(result(turned))[1]


def test_models_go_by_any_spelling():
    spelled, known = "mistralai/mixtral-8x7b-chat", "mistralai/Mixtral-8x7B-Instruct-v0.1"
    rows = [
        labelled("1 2", (1, 0), ("large", known), costs={"large": 0.01, known: 0.001}),
        labelled("2 1", (0, 1), ("large", known), costs={"large": 0.01, known: 0.001}),
    ]
    pool = ModelPool(written_router(("large", known)), [PoolModel("large", 2.0), PoolModel(spelled, 1.0)])
    assert evaluate_pool(pool, rows, resamples=1).cheapest == spelled
    own = priced_pool(written_router(("large", spelled)), rows)
    assert [model.name for model in own.models] == [known, "large"]
    assert priced_pool(written_router(("large", known)), rows, models=["large", spelled]).models[0].name == spelled
