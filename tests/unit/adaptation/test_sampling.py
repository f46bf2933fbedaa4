from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import routellm_fast as rf
from routellm_fast.adaptation.sampling import Plan, expected_moments, plan_labels
from routellm_fast.adaptation.sizing import Division
from routellm_fast.data import held_out
from routellm_fast.errors import InvalidArgumentError, InvalidEmbeddingError
from routellm_fast.tables import read_table
from routellm_fast.thresholds import Traffic

DIM = 6


def vectors_of(prompts: tuple[str, ...]) -> np.ndarray:
    """A vector a prompt, by its first word, with something of its own."""
    found = []
    for prompt in prompts:
        kind = sum(map(ord, prompt.split()[0]))
        own = np.random.default_rng(sum(map(ord, prompt))).normal(size=DIM)
        found.append(np.random.default_rng(kind).normal(size=DIM) + 0.2 * own)
    return np.array(found, dtype=np.float32)


def made_traffic(count: int, *, seed: int = 0, asked: bool = False) -> Traffic:
    """Requests of eight kinds, four lengths and two scripts, of unequal frequency."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(8, size=count, p=[0.4, 0.2, 0.15, 0.1, 0.06, 0.05, 0.03, 0.01])
    lengths = rng.choice([1, 20, 100, 500], size=count, p=[0.5, 0.3, 0.15, 0.05])
    words = np.where(rng.random(count) < 0.1, "\u4f60\u597d", "word")
    prompts = [f"kind{k} {i} " + f"{w} " * n for i, (k, n, w) in enumerate(zip(kinds, lengths, words, strict=True))]
    times = np.minimum(rng.zipf(1.7, size=count), 1000) if asked else np.ones(count, dtype=int)
    return Traffic.of([p for p, n in zip(prompts, times, strict=True) for _ in range(n)])


def planned(traffic: Traffic, **settings: object) -> Plan:
    return plan_labels(traffic, vectors_of(traffic.prompts), **settings)  # type: ignore[arg-type]


def chosen(traffic: Traffic, plan: Plan) -> list[tuple[str, bool]]:
    return [(traffic.prompts[row], bool(apart)) for row, apart in zip(plan.order, plan.is_untouched, strict=True)]


def test_every_request_has_one_turn() -> None:
    traffic = Traffic.of(["kind1 Why?", "kind1 why", "kind2 when", "kind1 WHY!", "kind3 how", "kind2 when"])
    plan = planned(traffic)
    assert len(plan) == 3
    assert sorted(plan.requests.tolist()) == [1, 2, 3]
    assert plan.requests.sum() == traffic.request_count
    assert len(set(plan.groups)) == 3
    assert plan.groups[0] == plan.groups[1] == plan.groups[3]
    assert {plan.groups[row] for row in plan.order} == set(plan.groups)


@pytest.mark.parametrize("asked", [False, True])
def test_the_order_of_the_file_changes_nothing(asked: bool) -> None:
    traffic = made_traffic(400, asked=asked)
    log = [p for p, n in zip(traffic.prompts, traffic.counts.tolist(), strict=True) for _ in range(n)]
    other = Traffic.of(np.random.default_rng(5).permutation(log).tolist())
    assert other.prompts != traffic.prompts
    assert chosen(traffic, planned(traffic)) == chosen(other, planned(other))


def test_another_seed_chooses_others() -> None:
    traffic = made_traffic(300)
    one, other = (dict(chosen(traffic, planned(traffic, seed=seed))) for seed in (0, 1))
    assert one != other
    assert set(one) == set(other)


def test_whenever_labelling_ends_the_labels_are_divided() -> None:
    division = Division(0.4, 100)
    plan = planned(made_traffic(1000), division=division)
    so_far = np.cumsum(plan.is_untouched)
    # Up to where one part has no more prompts.
    last = int(min(plan.is_untouched.sum() / 0.4, (~plan.is_untouched).sum() / 0.6))
    assert last > 900
    assert all(so_far[n - 1] == division.untouched(n) for n in range(1, last))


def test_the_untouched_part_is_a_plain_random_sample() -> None:
    traffic = made_traffic(120, asked=True)
    runs = 400
    early = dict.fromkeys(traffic.prompts, 0)
    for seed in range(runs):
        plan = planned(traffic, seed=seed)
        for row in plan.order[plan.is_untouched][:20]:
            early[traffic.prompts[row]] += 1
    share = np.array(list(early.values())) / runs
    # Each of 120 prompts is among the first 20 with the chance 1/6, and none more often for being asked more often.
    expected, error = 20 / 120, np.sqrt(20 / 120 * 100 / 120 / runs)
    assert np.abs(share - expected).max() < 4.5 * error
    assert share[traffic.counts > 5].mean() == pytest.approx(
        expected, abs=3 * error / np.sqrt((traffic.counts > 5).sum())
    )
    # As many apart from their expectation as there should be: a stratified sample has the same shares but not this.
    pairs = np.square((share - expected) / error).mean()
    assert 0.7 < pairs < 1.35


def test_random_samples_of_small_strata_vary_as_they_should() -> None:
    traffic = made_traffic(300)
    is_small = np.array([p.startswith(("kind5", "kind6", "kind7")) for p in traffic.prompts])
    found = []
    for seed in range(300):
        plan = planned(traffic, seed=seed)
        found.append(is_small[plan.order[plan.is_untouched][:50]].sum())
    p = is_small.mean()
    # The variance of draws without putting back; that of a stratified sample is near nothing.
    expected = 50 * p * (1 - p) * (300 - 50) / 299
    assert np.var(found) == pytest.approx(expected, rel=0.3)


def test_the_sides_do_not_decide_what_training_holds_out() -> None:
    traffic = made_traffic(3000)
    plan = planned(traffic, seed=0)
    groups = [plan.groups[row] for row in plan.order[~plan.is_untouched]]
    # A fourth of the rest, as of all: had both decisions the same numbers, it would be none.
    assert held_out(groups, 0.25, seed=0).mean() == pytest.approx(0.25, abs=0.04)


def test_every_start_of_the_order_is_spread_over_the_strata() -> None:
    plan = planned(made_traffic(2000))
    cells = plan.strata.cell[~plan.is_untouched]
    distinct, cell = np.unique(cells, return_inverse=True)
    shares = np.bincount(cell) / len(cell)
    for labels in (50, 100, 200, 500, 1000):
        found = np.bincount(cell[:labels], minlength=len(distinct))
        # A stratum is within one label of its share; and so is the number of labels for each of the strata.
        assert (np.abs(found - labels * shares) < 1.0 + len(distinct) * shares).all()


def test_the_spread_is_closer_to_the_traffic_than_a_random_draw() -> None:
    traffic = made_traffic(3000)
    kinds = np.array([int(p[4]) for p in traffic.prompts])
    of_traffic = np.bincount(kinds, minlength=8) / len(kinds)

    def distance(rows: np.ndarray) -> float:
        return float(np.abs(np.bincount(kinds[rows], minlength=8) / len(rows) - of_traffic).sum())

    spread, drawn = [], []
    for seed in range(20):
        plan = planned(traffic, seed=seed)
        spread.append(distance(plan.order[~plan.is_untouched][:100]))
        drawn.append(distance(plan.order[plan.is_untouched][:100]))
    assert np.mean(spread) < 0.6 * np.mean(drawn)


def test_small_strata_have_their_share_in_the_long_run() -> None:
    traffic = made_traffic(1500)
    is_small = np.array([p.startswith(("kind5", "kind6", "kind7")) for p in traffic.prompts])
    found = []
    for seed in range(60):
        plan = planned(traffic, seed=seed)
        found.append(is_small[plan.order[~plan.is_untouched][:60]].mean())
    assert np.mean(found) == pytest.approx(is_small.mean(), abs=0.015)


def test_what_is_asked_often_comes_early_and_takes_one_place() -> None:
    traffic = made_traffic(1000)
    often = "kind0 ping"
    for seed in range(6):
        log = Traffic.of([*traffic.prompts, *[often] * 100_000])
        plan = planned(log, seed=seed)
        rest = plan.order[~plan.is_untouched]
        if len(log.prompts) - 1 in rest:
            assert np.flatnonzero(rest == len(log.prompts) - 1)[0] < 100
        cells = plan.strata.cell[~plan.is_untouched]
        own = plan.strata.cell[plan.order == len(log.prompts) - 1]
        # Its stratum is not labelled to the end first.
        assert (cells[:100] == own).mean() < (cells == own).mean() + 0.1


def test_training_labels_are_drawn_in_proportion_to_what_was_asked() -> None:
    traffic = made_traffic(2000, asked=True)
    counts = traffic.counts.astype(float)
    found = []
    for seed in range(30):
        plan = planned(traffic, seed=seed)
        rest = plan.order[~plan.is_untouched]
        found.append(np.mean(counts[rest[:60]] == 1))
    # A label of a random request: the share of requests whose prompt was asked once; the sample is of 60 prompts, so
    # the prompts that were asked very often leave their place to others.
    of_requests, of_prompts = counts[counts == 1].sum() / counts.sum(), (counts == 1).mean()
    assert of_requests - 0.02 < np.mean(found) < 0.9 * of_prompts


def test_added_prompts_move_few_choices() -> None:
    both = made_traffic(2200)
    before, after = Traffic.of(both.prompts[:2000]), both
    one, other = (chosen(traffic, planned(traffic, seed=2)) for traffic in (before, after))
    sides = dict(other)
    assert all(sides[prompt] == apart for prompt, apart in one)  # nobody changes sides
    for labels in (100, 400):
        kept = len({p for p, _ in one[:labels]} & {p for p, _ in other[:labels]}) / labels
        # One in eleven of a random choice is new.
        assert kept > 0.75
    untouched = [[p for p, apart in found if apart] for found in (one, other)]
    assert [p for p in untouched[1] if p in dict(one)] == untouched[0]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=200), st.floats(1e-6, 1.0))
def test_moments_are_those_at_which_so_many_draws_are_expected(counts: list[int], offset: float) -> None:
    moments = expected_moments(np.array(counts), offset)
    assert (np.diff(moments) >= 0.0).all()
    rung = -np.expm1(-moments[:, None] * np.array(counts)).sum(axis=1)
    np.testing.assert_allclose(rung, np.arange(len(counts)) + offset, rtol=0.02, atol=1e-5)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=30), st.integers(0, (1 << 63) - 1))
def test_any_prompts_can_be_planned(prompts: list[str], seed: int) -> None:
    traffic = Traffic.of(prompts)
    vectors = np.zeros((len(traffic.prompts), 2), dtype=np.float32)
    plan = plan_labels(traffic, vectors, seed=seed)
    assert len(set(plan.order.tolist())) == len(plan) == len(set(plan.groups))
    assert plan.requests.sum() == traffic.request_count


def test_what_does_not_fit_is_refused() -> None:
    traffic = made_traffic(10)
    vectors = vectors_of(traffic.prompts)
    with pytest.raises(InvalidArgumentError, match="10 prompts need"):
        plan_labels(traffic, vectors[:9])
    with pytest.raises(InvalidArgumentError, match="10 prompts need"):
        plan_labels(traffic, vectors[:, 0])
    with pytest.raises(InvalidArgumentError, match="seed"):
        plan_labels(traffic, vectors, seed=-1)
    vectors[7, 1] = np.nan
    with pytest.raises(InvalidEmbeddingError, match="row 7"):
        plan_labels(traffic, vectors)


def test_real_prompts_are_spread_over_where_they_come_from(shared_data: Path) -> None:
    rows = list(read_table(shared_data / "prompts" / "natural_prompts.csv.gz"))
    source = {row.text("prompt"): row.text("source") for row in rows}
    traffic = Traffic.of(source)
    embedder = rf.load_router().embedder
    assert isinstance(embedder, rf.StaticEmbedder)
    vectors = embedder.tokens_only().embed(traffic.prompts)
    names, of_prompt = np.unique([source[prompt] for prompt in traffic.prompts], return_inverse=True)
    of_traffic = np.bincount(of_prompt) / len(of_prompt)

    def distance(rows: np.ndarray) -> float:
        return float(np.abs(np.bincount(of_prompt[rows], minlength=len(names)) / len(rows) - of_traffic).sum())

    spread, drawn = [], []
    for seed in range(8):
        plan = plan_labels(traffic, vectors, seed=seed)
        spread.append(distance(plan.order[~plan.is_untouched][:200]))
        drawn.append(distance(plan.order[plan.is_untouched][:200]))
    assert np.mean(spread) < np.mean(drawn)
