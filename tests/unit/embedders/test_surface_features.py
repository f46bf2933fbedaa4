"""The core's surface features beside their restatement in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from routellm_fast.export.surface_features import FEATURES, IMPERATIVES, PERSONAL_WORDS, QUESTION_WORDS, Read

from tests.support.builders import static_embedder

NAMES = tuple(FEATURES)
EMBEDDER = static_embedder(surface_features=NAMES, max_tokens=10_000, max_code_points=100_000)
PIECES = [
    *"\n\t\r\v\f .,!?:;()[]_$^{}\\aBzZ019é中\x00\x85\xa0", "\ud800", "\U0001f600", "please", "You", "Which", "write",
    "İ", "internationally", "\nA.", "\n (b) ", "\n3)", "\n[D]: ", "1.5", "1,000", "A. ",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=()), max_size=40).map("".join)


def features_of(text: str) -> dict[str, float]:
    return dict(zip(NAMES, EMBEDDER.embed([text])[0, -len(NAMES) :].tolist(), strict=True))


@given(texts)
@example("A. x\nB. y\n")
@example("Name the capital:\n(A) Rome\n(B)\tOslo\n(C)")
@settings(deadline=None, max_examples=500)
def test_the_core_computes_what_the_restatement_says(text: str) -> None:
    found = features_of(text)
    tokens = round(math.expm1(found["log_tokens"]))
    for name, feature in FEATURES.items():
        np.testing.assert_allclose(found[name], np.float32(feature(Read(text, tokens))), rtol=3e-7, err_msg=name)


def test_features_tell_kinds_of_requests_apart() -> None:
    quiz = features_of("Which of these is prime?\n\nA. 4\nB. 9\nC. 11\n\nAnswer:")
    assert quiz["multiple_choice"] == 1
    assert quiz["log_options"] == pytest.approx(math.log1p(3))
    assert quiz["log_stem_words"] == pytest.approx(math.log1p(5))
    assert quiz["log_option_words"] == pytest.approx(math.log1p(7 / 3))
    assert (quiz["ends_with_colon"], quiz["starts_with_question_word"], quiz["starts_with_imperative"]) == (1, 1, 0)
    task = features_of("  Write me a poem, please. I need 3.14 lines and 1,000 _words_!")
    assert (task["multiple_choice"], task["log_options"], task["log_option_words"]) == (0, 0, 0)
    assert task["log_personal_words"] == pytest.approx(math.log1p(3))
    assert task["log_numbers"] == pytest.approx(math.log1p(2))
    assert task["log_sentence_ends"] == pytest.approx(math.log1p(2))
    assert (task["has_underscore"], task["starts_with_imperative"], task["has_question_mark"]) == (1, 1, 0)
    assert features_of("Extraordinarily long words")["long_word_share"] == pytest.approx(1 / 3)
    assert features_of("one option\nA. only")["multiple_choice"] == 0


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("starts_with_imperative", IMPERATIVES),
        ("starts_with_question_word", QUESTION_WORDS),
        ("log_personal_words", PERSONAL_WORDS),
    ],
)
def test_both_know_the_same_words(feature: str, words: set[str]) -> None:
    for word in words:
        for spelling in (word, word.upper(), word.capitalize()):
            assert features_of(f"{spelling} x")[feature] > 0, spelling
            assert features_of(f"{spelling}é x")[feature] == 0, spelling
            assert features_of(f"x{spelling} x")[feature] == 0, spelling


def test_both_ends_of_a_long_text_are_read_as_one() -> None:
    limits = {"max_tokens": 16, "tail_tokens": 6, "max_code_points": 160}
    embedder = static_embedder(surface_features=NAMES, **limits)
    text = "Which is it?\nA. the\n" + "hello " * 50 + "\nB. a"
    found = dict(zip(NAMES, embedder.embed([text])[0, -len(NAMES) :].tolist(), strict=True))
    assert found["multiple_choice"] == 1
    assert (found["starts_with_question_word"], found["ends_with_question_mark"]) == (1, 0)
