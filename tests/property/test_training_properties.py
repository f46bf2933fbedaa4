from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from routellm_fast import data
from routellm_fast.routers.matrix_factorization import fold_models
from routellm_fast.training import TrainedMatrixFactorization
from routellm_fast.training.ensemble import folded

PROMPTS = st.sampled_from(["a", "A", " a", "b", "B", "c", "d", "e"])
GROUPS = st.sampled_from(["g1", "g2", "g3", "g4", "g5"])


@given(st.lists(st.tuples(PROMPTS, GROUPS)))
def test_joined_groups_do_not_depend_on_order_and_split_nothing(rows: list[tuple[str, str]]) -> None:
    joined = data.joined_groups(rows)
    assert joined == data.joined_groups(rows[::-1])
    of_group = defaultdict(set)
    for prompt, group in rows:
        of_group[group].add(joined[prompt])
        of_group[data.group_of(prompt)].add(joined[prompt])
    assert all(len(names) == 1 for names in of_group.values())
    # No more is joined than must be: prompts of different joined groups share neither group nor text.
    assert all(name in {group for _, group in rows} for name in joined.values())


BATTLES = st.builds(
    data.Battle,
    prompt=PROMPTS,
    group=GROUPS,
    model_a=st.sampled_from("xyz"),
    model_b=st.sampled_from("uvw"),
    target=st.floats(0.0, 1.0),
    source=st.sampled_from(["s1", "s2", "s3"]),
    weight=st.floats(0.01, 100.0),
)


@given(st.lists(BATTLES, max_size=40))
def test_centred_means_agree_between_sources(battles: list[data.Battle]) -> None:
    found = data.centred(battles)
    assert [(b.prompt, b.model_a, b.source, b.weight) for b in found] == [
        (b.prompt, b.model_a, b.source, b.weight) for b in battles
    ]
    by_pair = defaultdict(lambda: defaultdict(list))
    for before, after in zip(battles, found, strict=True):
        assert 0.0 <= after.target <= 1.0
        by_pair[before.model_a, before.model_b][before.source].append((before, after))
    for by_source in by_pair.values():
        rows = [row for rows in by_source.values() for row in rows]
        mean = np.average([b.target for b, _ in rows], weights=[b.weight for b, _ in rows])
        for members in by_source.values():
            shifted = np.average([a.target for _, a in members], weights=[a.weight for _, a in members])
            np.testing.assert_allclose(shifted, mean, atol=1e-9)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_a_folded_ensemble_is_the_mean(members: int, models: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def member() -> TrainedMatrixFactorization:
        d = int(rng.integers(1, 6))
        P, W, w = (rng.normal(size=shape).astype(np.float32) for shape in ((models, d), (d, dim), (d,)))
        return TrainedMatrixFactorization(tuple("abcde"[:models]), P, W, w)

    trained = [member() for _ in range(members)]
    expected = np.mean([fold_models(m.P, m.W, m.w) for m in trained], axis=0)
    one = folded(trained)
    # Terms of either sign are rounded before they cancel: the error is relative to their sizes.
    bound = np.mean([np.abs(m.w) @ np.abs(m.W) for m in trained], axis=0).max()
    np.testing.assert_allclose(fold_models(one.P, one.W, one.w), expected, atol=8 * np.finfo(np.float32).eps * bound)
