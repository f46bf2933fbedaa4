from __future__ import annotations

import numpy as np
import pytest

from routellm_fast import InvalidArgumentError, ModelPair
from routellm_fast.adaptation.labels import Labels, joined

PAIR = ModelPair("s", "w")


def labels(prompts: str, strong: list[float], weak: list[float], **fields: object) -> Labels:
    given = {"groups": tuple(f"g{prompt}" for prompt in prompts), **fields}
    return Labels(PAIR, tuple(prompts), strong=np.array(strong), weak=np.array(weak), **given)  # type: ignore[arg-type]


def test_rows_are_selected_with_all_that_belongs_to_them() -> None:
    found = labels("abc", [1, 0, 1], [0, 0, 1], costs_usd=np.array([[3, 1], [4, 1], [5, 2.0]]))
    chosen = found.select(np.array([True, False, True]))
    assert (chosen.prompts, chosen.groups) == (("a", "c"), ("ga", "gc"))
    np.testing.assert_array_equal(chosen.gap, [1, 0])
    assert chosen.costs_usd is not None
    np.testing.assert_array_equal(chosen.costs_usd, [[3, 1], [5, 2]])
    assert len(found.select(np.array([2, 0]))) == 2


def test_joined_labels_keep_the_first_of_each_prompt_and_join_groups() -> None:
    first = labels("ab", [1, 0], [0, 0], groups=("one", "two"))
    second = labels("bc", [1, 1], [1, 0], groups=("three", "four"))
    found = joined([first, second])
    assert found.prompts == ("a", "b", "c")
    np.testing.assert_array_equal(found.strong, [1, 0, 1])
    assert found.groups[1] == "three"  # the smaller name of the groups that share a prompt
    assert found.costs_usd is None


def test_costs_are_kept_where_all_parts_have_them() -> None:
    first = labels("a", [1], [0], costs_usd=np.array([[3.0, 1.0]]))
    second = labels("b", [1], [0], costs_usd=np.array([[5.0, 2.0]]))
    np.testing.assert_array_equal(joined([first, second]).costs_usd, [[3, 1], [5, 2]])
    assert joined([first, labels("c", [1], [0])]).costs_usd is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strong": np.array([0.5])}, "strong must be"),
        ({"strong": np.array([0.5, np.nan])}, "strong must be"),
        ({"weak": np.array([0.5, 10.0])}, "found 10: divide them"),
        ({"prompts": ("a", "a")}, "1 of them distinct"),
        ({"groups": ("g",)}, "1 groups"),
        ({"costs_usd": np.array([[1.0, -1.0], [0.0, 0.0]])}, "costs_usd must be"),
    ],
)
def test_what_are_no_labels_is_refused(fields: dict[str, object], said: str) -> None:
    given = {"prompts": ("a", "b"), "groups": ("g", "h"), "strong": np.ones(2), "weak": np.zeros(2), **fields}
    with pytest.raises(InvalidArgumentError, match=said):
        Labels(PAIR, **given)  # type: ignore[arg-type]


def test_labels_of_other_models_are_not_joined() -> None:
    other = Labels(ModelPair("x", "y"), ("a",), ("g",), np.ones(1), np.zeros(1))
    with pytest.raises(InvalidArgumentError, match="of one pair of models, found s, w and x, y"):
        joined([labels("a", [1], [0]), other])
