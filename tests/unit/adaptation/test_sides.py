from __future__ import annotations

import numpy as np

from routellm_fast.adaptation.sides import groups_of, untouched_rows
from tests.support.adapt_traffic import prompts


def test_near_duplicates_are_of_one_group_and_so_are_their_groups() -> None:
    texts = ["Hello there!", "hello  there", "Another.", "One more", "And one"]
    groups = groups_of(texts, ["a", "b", "c", "d", "c"])
    assert groups[0] == groups[1]
    assert groups[2] == groups[4]
    assert len(set(groups)) == 3


def test_groups_do_not_depend_on_who_comes_first() -> None:
    texts, names = ["Hello there!", "hello there", "Another."], ["b", "a", "c"]
    assert groups_of(texts, names) == tuple(reversed(groups_of(texts[::-1], names[::-1])))


def test_a_share_of_groups_stays_untouched_and_more_labels_move_nobody() -> None:
    texts = prompts(1000)
    many = untouched_rows(texts, texts, share=0.4, seed=0)
    assert abs(many.mean() - 0.4) < 0.05
    np.testing.assert_array_equal(untouched_rows(texts[:300], texts[:300], share=0.4, seed=0), many[:300])
    assert (untouched_rows(texts, texts, share=0.4, seed=1) != many).any()


def test_a_group_is_on_one_side() -> None:
    texts = prompts(300)
    groups = [str(row // 3) for row in range(300)]
    sides = untouched_rows(texts, groups, share=0.4, seed=0).reshape(-1, 3)
    assert (sides.all(axis=1) | ~sides.any(axis=1)).all()


def test_what_was_learned_from_stays_so_whatever_group_it_is_in_now() -> None:
    texts = prompts(200)
    sides = untouched_rows(texts, texts, share=0.4, seed=0)
    known = dict(zip(texts, sides.tolist(), strict=True))
    # Two by two, groups become one.
    groups = [str(row // 2) for row in range(200)]
    joined = untouched_rows(texts, groups, share=0.4, seed=3, known=known).reshape(-1, 2)
    both = sides.reshape(-1, 2).all(axis=1)
    np.testing.assert_array_equal(joined, np.stack([both, both], axis=1))


def test_new_prompts_take_the_side_of_their_group() -> None:
    known = {"old": False, "other": True}
    texts, groups = ["old", "new", "other", "newer"], ["a", "a", "b", "b"]
    assert untouched_rows(texts, groups, share=0.4, seed=0, known=known).tolist() == [False, False, True, True]
