"""What a judge decided, read from a fixed last line or from a JSON object, and from nothing else.

Any other answer is no verdict: to guess one from the judge's prose would be to invent labels.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final

from routellm_fast.tables import parse_json_line

LOWEST_SCORE: Final = 1
HIGHEST_SCORE: Final = 5

# Models set such lines in bold or code; nothing else may stand beside the verdict.
_DRESS: Final = " \t*_`#"
_PAIRWISE: Final = re.compile(r"VERDICT[*_` ]{0,8}:[*_` ]{0,8}(A|B|TIE)", re.IGNORECASE | re.ASCII)
_SCORE: Final = re.compile(r"SCORE[*_` ]{0,8}:[*_` ]{0,8}([1-5])", re.IGNORECASE | re.ASCII)


class Mode(str, Enum):
    """Whether a judge compares two responses (pairwise) or gives each a score."""

    PAIRWISE = "pairwise"
    SCORE = "score"


Verdict = str | int
"""Pairwise: "first", "second" or "tie", by the order in which the responses were shown. Score: 1 to 5."""

_PAIRWISE_VERDICTS: Final = {"A": "first", "B": "second", "TIE": "tie"}


def parse_verdict(text: str, mode: Mode, *, as_json: bool = False) -> Verdict | None:
    """Return the verdict, or None where there is none.

    Args:
        text: All that the judge wrote.
        mode: What it was asked.
        as_json: The text must be one JSON object with "verdict" or "score"; else its last line that is not blank
            counts, `VERDICT: A`, `VERDICT: B`, `VERDICT: TIE` or `SCORE: 1` to `SCORE: 5`.
    """
    return _from_json(text, mode) if as_json else _from_last_line(text, mode)


def is_verdict(value: Any, mode: Mode) -> bool:
    """Tell whether a value read back is a verdict of this mode."""
    if mode is Mode.PAIRWISE:
        return isinstance(value, str) and value in _PAIRWISE_VERDICTS.values()
    return type(value) is int and LOWEST_SCORE <= value <= HIGHEST_SCORE


def _from_last_line(text: str, mode: Mode) -> Verdict | None:
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "").strip().strip(_DRESS)
    match = (_PAIRWISE if mode is Mode.PAIRWISE else _SCORE).fullmatch(last)
    if match is None:
        return None
    return _PAIRWISE_VERDICTS[match[1].upper()] if mode is Mode.PAIRWISE else int(match[1])


def _from_json(text: str, mode: Mode) -> Verdict | None:
    try:
        answer = parse_json_line(text)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    if mode is Mode.PAIRWISE:
        verdict = answer.get("verdict")
        return _PAIRWISE_VERDICTS.get(verdict.upper()) if isinstance(verdict, str) else None
    score = answer.get("score")
    return score if is_verdict(score, mode) else None
