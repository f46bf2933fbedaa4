from __future__ import annotations

import pytest

from routellm_fast.gateway.languages import known_languages, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Was ist die Hauptstadt von Frankreich?", "de"),
        ("Quelle est la capitale de la France ?", "fr"),
        ("¿Cuál es la capital de Francia y cuántos habitantes tiene?", "es"),
        ("日本の首都はどこですか?", "ja"),
        ("中国的首都是哪里?请简单介绍一下。", "zh"),
        ("Какая столица России и сколько там жителей?", "ru"),
    ],
)
def test_a_sentence_has_a_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", " ", "Hi", "ok", "Hallo", "12345", "Solve x^2+3x+2=0", "a" * 50, "\ud800", "🙂"])
def test_where_it_is_not_clear_there_is_none(text: str) -> None:
    assert language_of(text) == ""


def test_the_beginning_of_a_long_text_decides() -> None:
    english = "The quick brown fox jumps over the lazy dog. " * 30
    assert language_of(english + "Der schnelle braune Fuchs springt. " * 1000) == "en"


def test_what_iso_has_under_one_code_is_one_language() -> None:
    # Cantonese, which the library tells apart.
    assert language_of("你哋今日食咗飯未呀?我哋一齊去飲茶啦,嗰度啲點心好好食㗎。") == "zh"
    known = known_languages()
    assert {"en", "de", "zh", "ja", "no"} <= known
    assert all(len(code) == 2 for code in known)
