from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from routellm_fast.evaluation._cost_curves import hull, mean_quality
from routellm_fast.evaluation.pool import evaluate_pool
from tests.support.pool_builders import NAMES, labelled, written_pool

logits = st.integers(-12, 12).map(lambda quarters: quarters / 4)
prompts = st.tuples(logits, logits, logits).map(lambda row: " ".join(map(str, row)))
costs = st.tuples(*[st.integers(0, 5).map(float)] * 3).map(lambda values: dict(zip(NAMES, values, strict=True)))
taus = st.floats(0.5, 1.0)
scores = st.tuples(*[st.sampled_from((0.0, 0.25, 1.0))] * 3)


@given(st.lists(prompts, max_size=8), costs, taus)
def test_a_choice_is_the_cheapest_that_may_answer(texts, prices, tau):
    pool = written_pool(prices)
    for text, decision in zip(texts, pool.choose_batch(texts, tau), strict=True):
        ranked = pool.rank(text)
        may = [model for model in ranked if model.win_rate >= 1 - tau]
        assert ranked[0] in may
        cheapest = min(may, key=lambda model: (model.cost_usd_per_1k, model.model))
        assert (decision.model, decision.win_rate) == (cheapest.model, cheapest.win_rate)
        assert decision.cost_usd_per_1k <= ranked[0].cost_usd_per_1k
        assert pool.choose(text, tau) == decision


@given(prompts, costs, taus, taus, st.sampled_from([None, *NAMES]))
def test_a_larger_tau_never_costs_more(text, prices, one, other, best_model):
    low, high = sorted((one, other))
    pool = written_pool(prices, best_model=best_model)
    assert pool.choose(text, high).cost_usd_per_1k <= pool.choose(text, low).cost_usd_per_1k
    assert pool.choose(text, 1.0).cost_usd_per_1k == min(
        prices.values() if best_model is None else [min(prices.values()), prices[best_model]]
    )


@given(st.lists(prompts, min_size=1, max_size=8), costs, st.floats(0, 6))
def test_tau_for_a_budget_keeps_it_and_the_step_before_does_not(texts, prices, budget):
    pool = written_pool(prices)
    assume(budget >= min(prices.values()))
    tau = pool.tau_for(texts, cost_usd_per_1k=budget)

    def cost(at: float) -> float:
        return float(np.mean([decision.cost_usd_per_1k for decision in pool.choose_batch(texts, at)]))

    assert cost(tau) <= budget + 1e-9
    assert tau == 0.5 or cost(np.nextafter(tau, 0.0)) > budget


@given(st.lists(st.tuples(logits, logits), min_size=1, max_size=8), st.floats(0, 1))
@settings(deadline=None)
def test_a_pool_of_two_is_the_router_of_the_pair(rows, threshold):
    texts = [f"{strong} {weak}" for strong, weak in rows]
    pool = written_pool({"strong": 2.0, "weak": 1.0}, best_model="strong")
    router = pool.router.for_pair("strong", "weak")
    win_rates = router.win_rates(texts)
    # At the threshold itself, to the last bits of float32, a pair takes the strong model and a pool the cheaper one.
    assume((np.abs(win_rates - threshold) > 1e-6).all())
    chosen = [decision.model for decision in pool.choose_batch(texts, threshold)]
    assert chosen == [decision.model for decision in router.route_batch(texts, threshold)]


@given(st.lists(st.tuples(prompts, scores), min_size=1, max_size=10), st.lists(taus, min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=50)
def test_nothing_beats_the_oracle_and_order_does_not_matter(rows, wanted, data):
    table = [labelled(text, values, group=str(i)) for i, (text, values) in enumerate(rows)]
    pool = written_pool()
    found = evaluate_pool(pool, table, taus=wanted, resamples=3)
    best = found.oracle.quality.value + 1e-12
    assert all(point.quality.value <= best for point in found.curve)
    assert all(model.quality.value <= best for model in found.models)
    assert found.aiq.value >= found.area.value - 1e-12
    assert found.aiq.value <= best
    assert found.mixture_aiq.value <= best
    quality = {model.name: model.quality.value for model in found.models}
    assert quality[found.best_single] == max(quality.values())
    shuffled = evaluate_pool(pool, data.draw(st.permutations(table)), taus=wanted, resamples=3)
    for key in ("area", "aiq", "mixture_aiq"):
        assert abs(getattr(found, key).value - getattr(shuffled, key).value) < 1e-9
    doubled = evaluate_pool(pool, table + [replace(row) for row in table], taus=wanted, resamples=3)
    assert doubled.groups == found.groups
    assert abs(doubled.area.low - found.area.low) < 1e-9


points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=12)


@given(points)
def test_the_hull_lies_on_or_above_every_point_and_rises(entries):
    cost, quality = np.array(entries, dtype=np.float64).T
    corners = hull(cost, quality)
    x, y = cost[corners], quality[corners]
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    assert (np.diff(y) / np.diff(x))[1:].tolist() == sorted((np.diff(y) / np.diff(x))[1:], reverse=True)
    assert (np.interp(cost, x, y) >= quality - 1e-12).all()
    low, high = cost.min() - 1e-3, cost.max() + 1.0
    assert mean_quality(x, y, low, high) >= mean_quality(cost, quality, low, high) - 1e-9
