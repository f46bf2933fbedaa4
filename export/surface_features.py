"""The surface features of a text in plain Python, as the compiled core computes them.

The core is tested against this module, and an export holds it beside `example.py`, so that a graph can be used without
this package: so it imports nothing but the standard library. A word is a run of characters without blanks; a blank is a
space or one of the controls from tab to carriage return. A letter is an ASCII letter or any character beyond ASCII.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

OPTION = re.compile(r"(?:\A|(?<=\n))[ \t]*[(\[]?[A-Ja-j1-9][.):\]](?=[ \t-\r]|\Z)")
WORD = re.compile(r"[^ \t-\r]+")
LETTERS = re.compile(r"[A-Za-z\x80-\U0010ffff]+")
NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
SENTENCE_END = re.compile(r"[.!?](?=[ \t-\r]|\Z)")
PERSONAL_WORDS = {"i", "me", "my", "we", "us", "our", "you", "your", "please"}
QUESTION_WORDS = {"what", "who", "whom", "whose", "which", "when", "where", "why", "how"}
IMPERATIVES = {
    "act", "answer", "calculate", "classify", "compare", "complete", "compose", "compute", "convert", "correct",
    "create", "define", "describe", "design", "determine", "develop", "discuss", "draft", "edit", "estimate",
    "evaluate", "explain", "extract", "find", "fix", "generate", "give", "help", "identify", "imagine", "implement",
    "improve", "list", "make", "name", "outline", "plan", "predict", "prove", "provide", "rank", "rewrite",
    "select", "show", "simplify", "solve", "suggest", "summarise", "summarize", "tell", "translate", "turn", "use",
    "write",
}  # fmt: skip


class Read(NamedTuple):
    """What was read of a text, and how many tokens the whole text has."""

    text: str
    tokens: int


def share(part: float, whole: float) -> float:
    """A part of a whole; 0 of nothing."""
    return part / whole if whole else 0.0


def how_many(seen: str, characters: str) -> int:
    """How many of some characters a text has."""
    return sum(seen.count(character) for character in characters)


def as_bytes(seen: str) -> bytes:
    """The text in UTF-8; half a surrogate pair, which has no UTF-8, is written as if it had."""
    return seen.encode("utf-8", "surrogatepass")


def lower(text: str) -> str:
    """The text with ASCII capitals made small, and no other."""
    return text.translate({code: code + 32 for code in range(ord("A"), ord("Z") + 1)})


def words(seen: str) -> int:
    """How many words a text has."""
    return len(WORD.findall(seen))


def options(seen: str) -> list[int]:
    """Where the lines begin that are options of a multiple choice; nowhere where there is only one."""
    places = [match.start() for match in OPTION.finditer(seen)]
    return places if len(places) > 1 else []


def stem(seen: str) -> str:
    """The text before the first option."""
    return seen[: options(seen)[0]] if options(seen) else seen


def opening(seen: str) -> str:
    """The first run of letters, in small letters."""
    found = LETTERS.search(seen)
    return lower(found[0]) if found else ""


def last(seen: str) -> str:
    """The last character that is no blank."""
    return "".join(WORD.findall(seen))[-1:]


DIGITS = "0123456789"
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CODE_MARKS = r"{}[]()<>=;_\|#$*/+`~^&%@"

FEATURES: dict[str, Callable[[Read], float]] = {
    "constant": lambda _: 1.0,
    "log_tokens": lambda read: math.log1p(read.tokens),
    "digit_share": lambda read: share(how_many(read.text, DIGITS), len(read.text)),
    "code_mark_share": lambda read: share(how_many(read.text, CODE_MARKS), len(read.text)),
    "question_marks": lambda read: math.log1p(read.text.count("?")),
    "non_ascii_share": lambda read: share(sum(b >= 0x80 for b in as_bytes(read.text)), len(as_bytes(read.text))),
    "uppercase_share": lambda read: share(how_many(read.text, CAPITALS), len(read.text)),
    "log_lines": lambda read: math.log1p(read.text.count("\n")),
    "log_digits": lambda read: math.log1p(how_many(read.text, DIGITS)),
    "log_code_marks": lambda read: math.log1p(how_many(read.text, CODE_MARKS)),
    "multiple_choice": lambda read: float(bool(options(read.text))),
    "log_options": lambda read: math.log1p(len(options(read.text))),
    "log_stem_words": lambda read: math.log1p(words(stem(read.text))),
    "log_option_words": lambda read: math.log1p(
        share(words(read.text) - words(stem(read.text)), len(options(read.text)))
    ),
    "log_numbers": lambda read: math.log1p(len(NUMBER.findall(read.text))),
    "log_math_marks": lambda read: math.log1p(how_many(read.text, r"$\^{}")),
    "log_sentence_ends": lambda read: math.log1p(len(SENTENCE_END.findall(read.text))),
    "log_personal_words": lambda read: math.log1p(
        sum(lower(run) in PERSONAL_WORDS for run in LETTERS.findall(read.text))
    ),
    "log_word_length": lambda read: math.log1p(share(len("".join(WORD.findall(read.text))), words(read.text))),
    "long_word_share": lambda read: share(sum(len(run) >= 10 for run in LETTERS.findall(read.text)), words(read.text)),
    "has_question_mark": lambda read: float("?" in read.text),
    "has_underscore": lambda read: float("_" in read.text),
    "ends_with_question_mark": lambda read: float(last(read.text) == "?"),
    "ends_with_colon": lambda read: float(last(read.text) == ":"),
    "starts_with_imperative": lambda read: float(opening(read.text) in IMPERATIVES),
    "starts_with_question_word": lambda read: float(opening(read.text) in QUESTION_WORDS),
}
