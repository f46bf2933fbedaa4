from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routellm_fast.adaptation import checking
from routellm_fast.adaptation.checking import Checker, checker_of, chosen_letter, normalised
from routellm_fast.errors import DataError, InvalidArgumentError


def score(checker: str, answer: str, reference: str | None = None, prompt: str = "?") -> float:
    return checker_of(checker)(prompt, answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Paris", "paris", 1.0),
        ("  **Paris.** \n", "Paris", 1.0),
        ("\u201cNew  York\u201d", "new york", 1.0),
        ("ﬁne", "fine", 1.0),
        ("Paris, France", "Paris", 0.0),
        ("C", "C++", 0.0),
        ("C#", "C", 0.0),
        ("5", "-5", 0.0),
        ("50", "50%", 0.0),
    ],
)
def test_exact(answer: str, reference: str, expected: float) -> None:
    assert score("exact", answer, reference) == expected


@given(st.text())
def test_a_text_is_itself_and_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
    assert score("exact", f" {text}\n", text) == 1.0


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("It is Paris, of course.", "paris", 1.0),
        ("It is Parisian.", "Paris", 0.0),
        ("15", "5", 0.0),
        ("15 and 5", "5", 1.0),
        ("那是巴黎市", "巴黎", 1.0),
        ("a b", "a  b", 1.0),
        ("", "x", 0.0),
    ],
)
def test_contains(answer: str, reference: str, expected: float) -> None:
    assert score("contains", answer, reference) == expected


@given(st.text(), st.text(), st.text(alphabet="abc", min_size=1))
def test_what_stands_apart_in_an_answer_is_contained(before: str, after: str, reference: str) -> None:
    assert score("contains", f"{before} {reference} {after}", reference) == 1.0


@pytest.mark.parametrize(
    ("pattern", "answer", "reference", "expected"),
    [
        ("yes|no", "I say yes", None, 1.0),
        ("^yes$", "I say yes", None, 0.0),
        (r"answer: (\w+)", "answer: Paris. answer: Rome", "rome", 1.0),
        (r"answer: (\w+)", "answer: Paris", "rome", 0.0),
        (r"answer: (\w+)", "none", "rome", 0.0),
        (r"(\w+) is (?P<answer>\w+)", "it is Rome", "Rome", 1.0),
        (r"a(b)?c", "ac", "b", 0.0),
    ],
)
def test_regex(pattern: str, answer: str, reference: str | None, expected: float) -> None:
    assert score(f"regex:{pattern}", answer, reference) == expected


def test_an_expression_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_REGEX_TIMEOUT_S", 0.2)
    with pytest.raises(DataError, match=r"took more than 0.2 s on one answer"):
        score("regex:(?:a+)+b", "a" * 60)
    assert score("regex:(?:a+)+b", "aab") == 1.0


def test_in_another_thread_an_expression_is_searched_all_the_same() -> None:
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(score("regex:b", "abc")))
    thread.start()
    thread.join()
    assert found == [1.0]


@pytest.mark.parametrize(
    ("checker", "answer", "reference", "expected"),
    [
        ("numeric", "So it is 1,234 apples.", "#### 1234", 1.0),
        ("numeric", "50%", "0.5", 1.0),
        ("numeric", "3/4", "0.75", 1.0),
        ("numeric", "none", "1", 0.0),
        ("numeric", "3.14", "3.14159", 0.0),
        ("numeric:0.01", "3.14", "3.14159", 1.0),
        ("numeric:1%", "99.5", "100", 1.0),
        ("numeric:1%", "98", "100", 0.0),
    ],
)
def test_numeric(checker: str, answer: str, reference: str, expected: float) -> None:
    assert score(checker, answer, reference) == expected


MMLU = "What is it?\nA. one\nB. two\nC. three\nD. four\nAnswer:"


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        (" B\n", "B"),
        ("(B)", "B"),
        ("B. two", "B"),
        ("**B**", "B"),
        ("B) two, since A. is wrong", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (B) two.", "B"),
        ("the answer is (b)", "B"),
        ("Answer: **C**", "C"),
        ("A is wrong, C is too. The answer is D", "D"),
        ("First I thought the answer is A. No, the answer is C.", "C"),
        (r"\boxed{D}", "D"),
        (r"The final answer is $\boxed{\text{B}}$.", "B"),
        ("A good idea would be (C).", "C"),
        ("I would pick C", "C"),
        ("Option D", "D"),
        ("The answer is E.", None),  # the prompt has no E
        ("I do not know", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(answer: str, letter: str | None) -> None:
    assert chosen_letter(MMLU, answer) == letter
    if letter is not None:
        assert score("choice", answer, letter, MMLU) == 1.0
        assert score("choice", answer, f"({letter}) text", MMLU) == 1.0
    assert score("choice", answer, "A", MMLU) == 0.0


def test_without_options_in_the_prompt_letters_go_to_j() -> None:
    assert chosen_letter("Which?", "The answer is J.") == "J"
    assert chosen_letter("Which?", "The answer is K.") is None


@given(st.sampled_from("ABCD"), st.sampled_from(["The answer is {}.", "{}", "{}.", "({})", "Answer: {}", "**{}**"]))
def test_ways_to_say_a_letter(letter: str, form: str) -> None:
    assert score("choice", form.format(letter), letter, MMLU) == 1.0


# --- functions of the user's own


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Kept:\n    length: int\n"
        "def length(prompt, answer, reference):\n    return min(1.0, Kept(len(answer)).length / len(prompt))\n"
        "def is_long(prompt, answer, reference):\n    return len(answer) > 3\n"
    )
    assert score(f"python:{path}:length", "ab", prompt="abcd") == 0.5
    assert score(f"python:{path}:is_long", "abcd") == 1.0
    assert not checker_of(f"python:{path}:length").needs_reference


def test_numbers_of_numpy_are_scores() -> None:
    assert Checker("c", lambda p, a, r: np.float32(0.5))("", "", "") == 0.5  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("value", ["2", "-0.1", "float('nan')", "'1'", "None", "1j"])
def test_what_is_no_score_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"def check(prompt, answer, reference):\n    return {value}\n")
    with pytest.raises(DataError, match="must return a number from 0 to 1, found"):
        score(f"python:{path}:check", "a")


def test_a_function_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def check(prompt, answer, reference):\n    x = 1\n    return x / 0\n")
    with pytest.raises(DataError, match=r"mine.py, line 3: check\(\) failed: ZeroDivisionError: division by zero"):
        score(f"python:{path}:check", "a")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("def other(): pass\n", "has no function 'check'"),
        ("check = 3\n", "has no function 'check'"),
        ("x = 1\ndef check(:\n", "mine.py, line 2: the file of the checker cannot be run: SyntaxError"),
        ("x = 1\n\nraise KeyError('k')\n", "mine.py, line 3: the file of the checker cannot be run: KeyError"),
    ],
)
def test_a_file_that_holds_no_checker_is_named(tmp_path: Path, content: str, match: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(DataError, match=match):
        checker_of(f"python:{path}:check")
    with pytest.raises(DataError, match="is no file"):
        checker_of(f"python:{tmp_path / 'none.py'}:check")


# --- unit tests


def test_code_that_passes_tests_and_code_that_does_not() -> None:
    tests = "assert f(2) == 4"
    assert score("tests", "Here:\n```python\ndef f(x):\n    return x * x\n```\nDone.", tests) == 1.0
    assert score("tests:5", "```python\ndef f(x):\n    return x + 1\n```", tests) == 0.0
    assert score("tests", "```bash\nls\n```", tests) == 0.0


# --- what a text names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "judge",
        "exact:",
        "exact:x",
        "contains:",
        "regex",
        "regex:",
        "numeric:",
        "choice:A",
        "python",
        "python:",
        "tests:",
    ],
)
def test_what_is_no_checker_is_refused_with_a_list(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no checker: expected exact, contains, regex:PATTERN, numeric"):
        checker_of(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("regex:(", "no regular expression"),
        ("regex:a{99999999999999}", "no regular expression"),
        ("numeric:x", "a tolerance is a number"),
        ("numeric:-1", "a tolerance is a number"),
        ("numeric:nan%", "a tolerance is a number"),
        ("numeric:inf", "a tolerance is a number"),
        ("python:file.py", "expected python:FILE.py:function"),
        ("python:file.txt:check", "expected python:FILE.py:function"),
        ("python:file.py:1x", "expected python:FILE.py:function"),
        ("tests:0", "a time-out is a number of seconds"),
        ("tests:x", "a time-out is a number of seconds"),
        ("tests:1e9", "a time-out is a number of seconds"),
    ],
)
def test_what_does_not_fit_a_checker_is_named(text: str, match: str) -> None:
    with pytest.raises(InvalidArgumentError, match=match):
        checker_of(text)


@pytest.mark.parametrize(
    ("checker", "reference", "problem"),
    [
        ("exact", " . ", "nothing to compare with"),
        ("contains", "", "nothing to compare with"),
        ("regex:(x)", "", "nothing to compare with"),
        ("numeric", "many", "it holds no number: 'many'"),
        ("choice", "Paris", "expected the letter of an option, found 'Paris'"),
        ("choice", "1", "expected the letter"),
        ("tests", "assert (", "it is no Python"),
        ("tests", " ", "it holds no tests"),
    ],
)
def test_what_cannot_be_a_reference_is_known_before(checker: str, reference: str, problem: str) -> None:
    found = checker_of(checker).problem_of(reference)
    assert found is not None
    assert problem in found


@pytest.mark.parametrize(
    ("checker", "reference"),
    [("exact", "a"), ("regex:x", ""), ("numeric", "1"), ("choice", "(b) two"), ("tests", "assert True")],
)
def test_what_can_be_a_reference(checker: str, reference: str) -> None:
    assert checker_of(checker).problem_of(reference) is None


def test_a_missing_reference_is_named() -> None:
    with pytest.raises(DataError, match="exact needs a reference"):
        score("exact", "a")
    assert score("regex:a", "a") == 1.0
