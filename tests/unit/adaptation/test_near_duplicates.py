from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.adaptation.near_duplicates import collapsed, request_of, waiting_times
from routellm_fast.data.split import group_of, plain
from routellm_fast.tables import read_table


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what is  the capital of France"),
        ("Hello, world!", "hello world"),
        ("Don\u2019t say \u201cno\u201d.", 'don\'t say "no"'),
        ("Wait\u2026 what", "Wait... what"),
        ("\u4f60\u597d\u5417\uff1f", "\u4f60\u597d\u5417?"),
        ("Add 3 and 4.", "Add 3 and 4"),
        ("a \u2013 b", "a - b"),
        ("Sort:\n1. one\n2. two", "Sort: 1. one 2. two"),
    ],
)
def test_prompts_that_ask_the_same(one: str, other: str) -> None:
    assert request_of(one) == request_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 12 + 7?", "What is 13 + 7?"),
        ("What is 12 + 7?", "What is 12 - 7?"),
        ("What is 1.5 + 7?", "What is 15 + 7?"),
        ("What is 3!", "What is 3"),
        ("x > 2", "x < 2"),
        ("f(x)", "f[x]"),
        ("Which is larger, A or B?", "Which is larger, B or A?"),
        ("Write a poem about cats", "Write a poem about dogs"),
        ("Is -3 negative?", "Is 3 negative?"),
        ("a.b", "ab"),
        ("", "x"),
    ],
)
def test_prompts_that_ask_different_things(one: str, other: str) -> None:
    assert request_of(one) != request_of(other)


@given(st.text(), st.text())
def test_it_is_coarser_than_prompt_groups(one: str, other: str) -> None:
    for a, b in ((one, other), (one, one.upper()), (one, f" {one}\n")):
        if group_of(a) == group_of(b):
            assert request_of(a) == request_of(b)


LETTERS_AND_DIGITS = re.compile(r"[\W_]+")


@given(st.lists(st.text(alphabet="ab1 .,!?-'\u2019\n", max_size=8)))
def test_no_letter_and_no_digit_is_lost(texts: list[str]) -> None:
    by_request: dict[str, str] = {}
    for text in texts:
        kept = LETTERS_AND_DIGITS.sub(" ", plain(text).replace("\u2019", "'")).split()
        assert "".join(kept) == "".join(by_request.setdefault(request_of(text), " ".join(kept)).split())


def test_a_set_has_the_counts_of_all_its_prompts() -> None:
    prompts = ("Why?", "When", "why", "WHY!")
    found = collapsed(prompts, np.array([3, 1, 5, 2]), seed=0)
    assert len(found) == 2
    assert found.names == tuple(sorted(found.names))
    why, when = found.of_prompt[0], found.of_prompt[1]
    assert found.of_prompt.tolist() == [why, when, why, why]
    assert (found.counts[why], found.counts[when]) == (10, 1)
    assert found.representative[when] == 1
    assert found.representative[why] in (0, 2, 3)


def test_the_order_of_the_prompts_does_not_matter() -> None:
    prompts, counts = ("Why?", "When", "why", "WHY!"), np.array([3, 1, 5, 2])
    one, other = collapsed(prompts, counts, seed=4), collapsed(prompts[::-1], counts[::-1], seed=4)
    assert one.names == other.names
    assert [prompts[i] for i in one.representative] == [prompts[::-1][i] for i in other.representative]
    np.testing.assert_array_equal(one.counts, other.counts)


def test_a_form_that_is_asked_more_often_represents_more_often() -> None:
    chosen = [collapsed(("why?", "why"), np.array([3, 1]), seed=seed).representative[0] for seed in range(400)]
    # 300 are expected, with a standard deviation of 8.7.
    assert 265 < chosen.count(0) < 335


def test_waiting_times_are_exponential() -> None:
    names = [f"name {i}" for i in range(20_000)]
    rates = np.where(np.arange(20_000) % 2, 4, 1)
    times = waiting_times(names, rates, seed=1, use="test") * rates
    assert times.min() > 0.0
    # Mean and standard deviation of an exponential time are 1; theirs have standard errors of .007 and .01.
    assert times.mean() == pytest.approx(1.0, abs=0.03)
    assert times.std() == pytest.approx(1.0, abs=0.05)


def test_of_real_prompts_only_those_that_read_the_same_are_taken_together(shared_data: Path) -> None:
    rows = read_table(shared_data / "prompts" / "natural_prompts.csv.gz")
    prompts = tuple(dict.fromkeys(row.text("prompt") for row in rows))
    found = collapsed(prompts, np.ones(len(prompts), dtype=np.int64), seed=0)
    assert 0 < len(prompts) - len(found) < 0.01 * len(prompts)
    for request in np.flatnonzero(found.counts > 1):
        members = [prompts[i] for i in np.flatnonzero(found.of_prompt == request)]
        assert len({LETTERS_AND_DIGITS.sub("", plain(member)) for member in members}) == 1, members


@pytest.mark.parametrize("traffic", ["farel_bench", "zeroeval_numersense", "zeroeval_crux", "eq_bench_v2", "kor_bench"])
def test_templates_filled_differently_stay(traffic: str, shared_data: Path) -> None:
    rows = read_table(shared_data / "traffic" / f"{traffic}.csv.gz")
    prompts = tuple(dict.fromkeys(row.text("prompt") for row in rows))
    found = collapsed(prompts, np.ones(len(prompts), dtype=np.int64), seed=0)
    assert len(found) >= 0.99 * len(prompts)
