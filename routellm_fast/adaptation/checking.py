"""Checkers, which score an answer without a judge: against a reference, by a function of the user's, or by unit tests.

A checker takes prompt, answer and reference and returns a score from 0 (wrong) to 1 (right). `checker_of` reads what a
command line says:

* `exact`: the answer is the reference. Unicode form (NFKC), letter case, runs of space, and quotation marks, stars and
  `.,;:!?` at both ends do not count.
* `contains`: the reference stands in the answer, likewise, and not within a longer word or number.
* `regex:PATTERN`: PATTERN, an expression of Python's `re`, is found in the answer. Where it has a group, what the group
  (one named `answer`, else the first) holds at the last place found is compared with the reference as `exact` does.
  In the main thread an answer may take 10 s; an expression that takes longer is refused. In other threads nothing
  bounds its time.
* `numeric` or `numeric:TOLERANCE`: the last number of the answer is the last number of the reference; `numerals` says
  how numbers are read. TOLERANCE is the most by which they may differ, `0.01`, or a share of the reference, `1%`.
* `choice`: the letter of an option that the answer chooses is that of the reference, `B` or `B. Paris`.
* `python:FILE.py:function`: a function of the user's own, called with prompt, answer and reference.
* `tests` or `tests:TIMEOUT_S`: the code of the answer passes the tests of the reference; see `unit_tests`, and mind
  that it runs what a model wrote.
"""

from __future__ import annotations

import importlib.util
import math
import numbers as number_types
import re
import signal
import sys
import threading
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from routellm_fast.adaptation import unit_tests
from routellm_fast.adaptation.numerals import boxed, last_number
from routellm_fast.errors import DataError, InvalidArgumentError
from routellm_fast.shown import shown
from routellm_fast.threads import available_threads

Check = Callable[[str, str, str | None], float]
ALLOWED: Final = (
    "exact",
    "contains",
    "regex:PATTERN",
    "numeric",
    "numeric:TOLERANCE",
    "choice",
    "python:FILE.py:function",
    "tests",
    "tests:TIMEOUT_S",
)
_REGEX_TIMEOUT_S: Final = 10.0
_SHOWN_CHARS: Final = 60
# What may stand around an answer without being part of it. Not +, #, - and %: C++ is not C, and -5 not 5.
_AROUND: Final = " \"'\u201c\u201d\u2018\u2019«»`*.,;:!?¡¿"


def _nothing(_reference: str) -> str | None:
    """Any text can be a reference."""
    return None


@dataclass(frozen=True, slots=True)
class Checker:
    """Scores answers.

    Attributes:
        name: What the user calls it: "numeric:0.01".
        check: Returns the score of an answer, given prompt, answer and reference.
        needs_reference: Whether every prompt needs a reference.
        problem_of: Returns in words why a text cannot be a reference; None where it can.
        max_threads: In how many threads at once it may be called.
    """

    name: str
    check: Check
    needs_reference: bool = True
    problem_of: Callable[[str], str | None] = _nothing
    max_threads: int = 1

    def __call__(self, prompt: str, answer: str, reference: str | None) -> float:
        """Return the score of an answer, from 0 to 1. Raises DataError where there is none."""
        if reference is None and self.needs_reference:
            raise DataError(f"the checker {self.name} needs a reference, found none")
        score = self.check(prompt, answer, reference)
        # bool and numpy's numbers are numbers, too.
        if not isinstance(score, number_types.Real) and not hasattr(score, "__float__"):
            raise DataError(f"the checker {self.name} must return a number from 0 to 1, found {type(score).__name__}")
        value = float(score)
        if not 0.0 <= value <= 1.0 or math.isnan(value):
            raise DataError(f"the checker {self.name} must return a number from 0 to 1, found {value:g}")
        return value


def checker_of(text: str) -> Checker:
    """Return the checker that a text names; the text of this module lists them.

    Raises:
        InvalidArgumentError: The text names none; the error lists what is allowed.
        DataError: The file of a Python function cannot be run, or has no such function.
    """
    kind, colon, argument = text.partition(":")
    if kind == "exact" and not colon:
        return Checker(text, _exact, problem_of=_empty)
    if kind == "contains" and not colon:
        return Checker(text, _contains, problem_of=_empty)
    if kind == "choice" and not colon:
        return Checker(text, _choice, problem_of=_no_letter)
    if kind == "regex" and argument:
        return _regex(text, argument)
    if kind == "numeric" and (argument or not colon):
        return _numeric(text, argument)
    if kind == "python" and argument:
        return _python(text, argument)
    if kind == "tests" and (argument or not colon):
        return _tests(text, argument)
    raise InvalidArgumentError(f"{shown(text)!r} is no checker: expected {', '.join(ALLOWED[:-1])} or {ALLOWED[-1]}")


# --- texts


def normalised(text: str) -> str:
    """Return a text as `exact` compares it; the text of this module says what does not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND)


def _empty(reference: str) -> str | None:
    return None if normalised(reference) else "it holds nothing to compare with"


def _exact(_prompt: str, answer: str, reference: str | None) -> float:
    return float(normalised(answer) == normalised(reference or ""))


def _contains(_prompt: str, answer: str, reference: str | None) -> float:
    text, wanted = normalised(answer), normalised(reference or "")
    if not wanted:
        return 0.0
    place = text.find(wanted)
    while place >= 0:
        if not (_joined(text, place) or _joined(text, place + len(wanted))):
            return 1.0
        place = text.find(wanted, place + 1)
    return 0.0


def _joined(text: str, place: int) -> bool:
    """Tell whether the characters on both sides of a place are of one word or number."""
    if not 0 < place < len(text):
        return False
    left, right = text[place - 1], text[place]
    # Scripts without capital letters are mostly written without spaces, so a word may begin anywhere in them.
    return all(character.isdigit() or character.upper() != character.lower() for character in (left, right))


def _regex(name: str, pattern: str) -> Checker:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(f"{shown(name)!r}: no regular expression: {error}") from error
    group = "answer" if "answer" in compiled.groupindex else 1 if compiled.groups else 0

    def check(_prompt: str, answer: str, reference: str | None) -> float:
        with _within(_REGEX_TIMEOUT_S, f"the expression {shown(pattern)!r}"):
            if not group:
                return float(compiled.search(answer) is not None)
            found = None
            for match in compiled.finditer(answer):
                found = match[group]
        return float(found is not None and normalised(found) == normalised(reference or ""))

    return Checker(name, check, needs_reference=bool(group), problem_of=_empty if group else _nothing)


@contextmanager
def _within(seconds: float, what: str) -> Iterator[None]:
    """Raise DataError when the block takes longer; in the main thread only, which alone is interrupted by a signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise DataError(f"{what} took more than {seconds:g} s on one answer: write one that looks at less")

    previous = signal.signal(signal.SIGALRM, end)
    rest_s, interval_s = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest_s, interval_s)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if previous is None else previous)


# --- numbers


def _numeric(name: str, tolerance: str) -> Checker:
    is_share = tolerance.endswith("%")
    try:
        value = float(tolerance.removesuffix("%") or 0.0)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise InvalidArgumentError(
            f"{shown(name)!r}: a tolerance is a number of at least 0, or a percentage such as 1%"
        )
    absolute, relative = (0.0, value / 100.0) if is_share else (value, 0.0)

    def check(_prompt: str, answer: str, reference: str | None) -> float:
        found, wanted = last_number(answer), last_number(reference or "")
        if found is None or wanted is None:
            return 0.0
        return float(found.equals(wanted, absolute=absolute, relative=relative))

    return Checker(name, check, problem_of=_no_number)


def _no_number(reference: str) -> str | None:
    return None if last_number(reference) is not None else f"it holds no number: {_brief(reference)}"


# --- options

_MOST_OPTIONS: Final = "ABCDEFGHIJ"
_OPTION: Final = re.compile(r"(?<!\S)[(\[]?([A-Z])[)\].:](?=\s)")
_REFERENCE: Final = re.compile(r"[\s(\[*]*([A-Za-z])(?:[\s)\]*]*|[)\].:,\s][\s\S]*)")
_BEGIN: Final = re.compile(r"[\s(\[*_\"'$]{0,6}([A-Z])(?:[)\].:,*_\"'$]|\s*$|\s*\n)")
_SAID: Final = re.compile(
    r"(?i:\b(?:answer|option|choice)\b)[^A-Za-z0-9\n]{0,8}"
    r"(?:(?i:is|was|would be|should be|must be)\b[^A-Za-z0-9\n]{0,8})?(?:(?i:option|choice)[^A-Za-z0-9\n]{1,4})?"
    r"(?:\\text\{\(?)?(?:([A-Z])|\(([a-z])\))(?![A-Za-z0-9'\u2019])"
)
_MARKED: Final = re.compile(r"(?<![A-Za-z0-9])[(\[*]{1,3}([A-Z])[)\]*.:]{1,3}(?![A-Za-z0-9])")
# A and I are words, too.
_ALONE: Final = re.compile(r"(?<![A-Za-z0-9'\u2019])([B-HJ-Z])(?![A-Za-z0-9'\u2019])")
_BOXED_LETTER: Final = re.compile(r"(?:\\(?:text|mathrm|textbf)\{)?\s{0,3}\(?([A-Z])\)?[.:)]?(?:\}|\s[\s\S]*)?\s{0,3}")


def _choice(prompt: str, answer: str, reference: str | None) -> float:
    found = chosen_letter(prompt, answer)
    wanted = _REFERENCE.fullmatch((reference or "").strip())
    return float(found is not None and wanted is not None and found == wanted[1].upper())


def chosen_letter(prompt: str, answer: str) -> str | None:
    r"""Return the letter of the option that an answer chooses; None where that cannot be told.

    The first of these says it: a letter in `\boxed{…}`; the last "answer is B", "answer: (B)" or the like; a letter
    with which the answer begins, "B" or "B. Paris"; the last letter in brackets or stars; the last one that stands
    alone. Only letters of the prompt's options count, where it lists two or more, else A to J.
    """
    letters = {match[1] for match in _OPTION.finditer(prompt)}
    count = next(index for index in range(27) if chr(ord("A") + index) not in letters)
    options = {chr(ord("A") + index) for index in range(count)} if count >= 2 else set(_MOST_OPTIONS)
    inner = boxed(answer)
    in_box = None if inner is None else _BOXED_LETTER.fullmatch(inner)
    if in_box is not None and in_box[1] in options:
        return in_box[1]
    begin = _BEGIN.match(answer)
    candidates = (
        [(match[1] or match[2]).upper() for match in _SAID.finditer(answer)],
        [begin[1]] if begin is not None else [],
        [match[1] for match in _MARKED.finditer(answer)],
        [match[1] for match in _ALONE.finditer(answer)],
    )
    for found in candidates:
        if chosen := [letter for letter in found if letter in options]:
            return chosen[-1]
    return None


def _no_letter(reference: str) -> str | None:
    is_one = _REFERENCE.fullmatch(reference.strip()) is not None
    return None if is_one else f"expected the letter of an option, found {_brief(reference)}"


# --- functions of the user's own


def _python(name: str, argument: str) -> Checker:
    file, _, function_name = argument.rpartition(":")
    path = Path(file)
    if not file or not function_name.isidentifier() or path.suffix != ".py":
        raise InvalidArgumentError(f"{shown(name)!r}: expected python:FILE.py:function")
    function = getattr(_module(path), function_name, None)
    if not callable(function):
        raise DataError(f"{path} has no function {function_name!r}")

    def check(prompt: str, answer: str, reference: str | None) -> float:
        try:
            score: float = function(prompt, answer, reference)
        except Exception as error:
            raise DataError(f"{_place(path, error)}: {function_name}() failed: {_said(error)}") from error
        return score

    return Checker(name, check, needs_reference=False)


def _module(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}, which should hold a checker, is no file")
    spec = importlib.util.spec_from_file_location(f"routellm_fast_checker_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise DataError(f"{_place(path, error)}: the file of the checker cannot be run: {_said(error)}") from error
    return module


def _place(path: Path, error: BaseException) -> str:
    """Return the file, and the line of it at which an error came up."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {shown(str(error))}"


# --- unit tests


def _tests(name: str, timeout: str) -> Checker:
    try:
        timeout_s = float(timeout or unit_tests.TIMEOUT_S)
    except ValueError:
        timeout_s = math.nan
    if not 0.0 < timeout_s <= unit_tests.LONGEST_TIMEOUT_S:
        raise InvalidArgumentError(
            f"{shown(name)!r}: a time-out is a number of seconds above 0, at most {unit_tests.LONGEST_TIMEOUT_S:g}"
        )

    def check(_prompt: str, answer: str, reference: str | None) -> float:
        code = unit_tests.code_of(answer)
        return float(code is not None and unit_tests.passes(code, reference or "", timeout_s=timeout_s))

    return Checker(name, check, problem_of=unit_tests.problem_of, max_threads=available_threads())


def _brief(text: str) -> str:
    return f"{shown(text[:_SHOWN_CHARS])!r}{'…' if len(text) > _SHOWN_CHARS else ''}"
