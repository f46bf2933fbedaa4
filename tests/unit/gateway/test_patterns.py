from __future__ import annotations

import pytest

from routellm_fast.errors import InvalidArgumentError
from routellm_fast.gateway.patterns import regex, wildcard


@pytest.mark.parametrize(
    ("expression", "text", "is_found"),
    [
        ("prove", "please prove it", True),
        ("^prove", "please prove it", False),
        (r"(?i)\bSQL\b", "write sql for it", True),
        ("ü+", "grüüße", True),
        (r"\p{Han}", "中国", True),
        ("a.b", "a\nb", False),
        ("x", "", False),
        ("", "", True),
        ("x", "a\0x", True),
    ],
)
def test_a_regular_expression_is_found_anywhere(expression: str, text: str, is_found: bool) -> None:
    assert regex(expression).holds(text) is is_found


def test_a_text_with_half_a_surrogate_pair_is_searched() -> None:
    assert regex("end").holds("\ud800 end")
    assert not regex("x").holds("\ud800")


def test_an_expression_that_others_take_years_for_ends() -> None:
    # With the standard library's `re` these take 2^28 steps and more.
    text = "a" * 10_000 + "!"
    assert not regex("^(a+)+$").holds(text)
    assert not regex("^(a|a)*$").holds(text)
    assert not wildcard("*a" * 50 + "b").holds(text)


@pytest.mark.parametrize(
    "expression", ["(", r"(?=x)", r"(a)\1", "[[:nothing:]]", "((a{1000}){1000}){1000}", "(" * 3000, "\ud800"]
)
def test_what_cannot_be_compiled_is_refused(expression: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no regular expression") as caught:
        regex(expression)
    assert len(str(caught.value)) < 500


def test_what_backtracks_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="look-around"):
        regex(r"(?<=a)b")


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("router-mf", "router-mf", True),
        ("router-mf", "router-mf-0.5", False),
        ("router-*", "router-mf-0.5", True),
        ("*mini", "gpt-4o-mini", True),
        ("*mini", "gpt-4o-mini-2", False),
        ("a.c", "abc", False),
        ("[a]?", "[a]?", True),
        ("*", "", True),
        ("*", "line\nline", True),
        ("a**b", "ab", True),
        ("", "x", False),
        ("Team-A", "team-a", False),
    ],
)
def test_a_star_stands_for_any_characters_and_nothing_else_does(pattern: str, text: str, matches: bool) -> None:
    assert wildcard(pattern).holds(text) is matches
