"""How one embedding server wants to be asked, and what a refusal or an odd answer teaches about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from routellm_fast.endpoints import FORM_STATUSES, refuses_some_parameter
from routellm_fast.errors import InvalidArgumentError

ENCODING_FORMATS: Final = ("auto", "base64", "float", "none")
NEVER: Final = 0

_TOO_LARGE: Final = 413
_ABOUT_ENCODING: Final = re.compile(r"encoding.?format|base.?64")
_ABOUT_DIMENSIONS: Final = re.compile(r"dimension|matryoshka")
_COUNTED: Final = re.compile(
    r"batch|\b(inputs?|texts|items|documents|sentences|strings|arrays?|lists?|elements|entries|prompts)\b"
)
_TOO_MANY: Final = re.compile(
    r"max|most|limit|exceed|too (many|large|long|big)|(larg|great|long|bigg)er than|(more|less|fewer) than|up to|[<>≤]"
    r"|should have|between|split|\bonly\b|\bsingle\b"
)
_OF_ONE_TEXT: Final = re.compile(r"token|character|context|sequence")
# The number that follows a word of limits, unless it counts bytes, tokens, seconds or shares.
_LIMIT: Final = re.compile(
    r"(?:max\w*|at most|limit\w*|exceed\w*|(?:larg|great|long|bigg)er than|(?:more|less|fewer) than|up to|only|[<>≤]=?"
    r"|between \d+ and)[^\d.;]{0,60}?\b(\d{1,3}(?:[,_]\d{3})+|\d{1,9})\b"
    r"(?!\s*(?:[kmg]i?b\b|bytes|tokens|char|s\b|sec|min|%))"
)


@dataclass(frozen=True, slots=True)
class Manners:
    """How a server is asked for embeddings. Immutable; each method returns what to try next, None for nothing.

    Attributes:
        encoding: The request's `encoding_format`; None leaves it out.
        is_encoding_open: Whether the server may be asked in another encoding.
        sends_dimensions: Whether the request holds `dimensions`.
        is_dimensions_open: Whether that may change.
        most_texts: The most texts in a request.
    """

    encoding: str | None
    is_encoding_open: bool
    sends_dimensions: bool
    is_dimensions_open: bool
    most_texts: int

    @classmethod
    def of(cls, encoding_format: str, dimensions: int | None, batch_size: int, *, is_shortened: bool) -> Manners:
        """Return how a server is asked at first.

        Args:
            encoding_format: One of ENCODING_FORMATS. "auto" begins with base64: exact float32 in a quarter of the
                bytes; servers that ignore it send lists of numbers.
            dimensions: How many dimensions to ask for; NEVER to send none, None to send what turns out to be needed.
            batch_size: The most texts in a request.
            is_shortened: Whether the vectors are known to be shorter than the model's own, so that the server must be
                asked for it.

        Raises:
            InvalidArgumentError: encoding_format is another one.
        """
        if encoding_format not in ENCODING_FORMATS:
            raise InvalidArgumentError(
                f"encoding_format must be one of {', '.join(ENCODING_FORMATS)}, found {encoding_format!r}"
            )
        return cls(
            encoding={"auto": "base64", "none": None}.get(encoding_format, encoding_format),
            is_encoding_open=encoding_format == "auto",
            sends_dimensions=is_shortened if dimensions is None else dimensions != NEVER,
            is_dimensions_open=dimensions is None,
            most_texts=batch_size,
        )

    def after_useless_answer(self) -> Manners | None:
        """Return how to ask again after an answer without vectors that can be read: in no encoding."""
        return self._plain()

    def after_another_dim(self) -> Manners | None:
        """Return how to ask again after vectors of another length than expected: for `dimensions`."""
        if not self.is_dimensions_open or self.sends_dimensions:
            return None
        return replace(self, sends_dimensions=True, is_dimensions_open=False)

    def after_refusal(self, status: int | None, reason: str, count: int) -> Manners | None:
        """Return how to ask again after a refusal.

        Each answer leaves less open, so that asking again ends.

        Args:
            status: The answer's HTTP status; None for no answer.
            reason: What the server wrote.
            count: Number of texts in the refused request.
        """
        if status not in FORM_STATUSES:
            return None
        text = reason.lower()
        is_about_dimensions = _ABOUT_DIMENSIONS.search(text) is not None
        plain = self._plain() if _ABOUT_ENCODING.search(text) or not (text or status == _TOO_LARGE) else None
        if is_about_dimensions and self.is_dimensions_open and self.sends_dimensions:
            return replace(plain or self, sends_dimensions=False, is_dimensions_open=False)
        if plain is not None:
            return plain
        if count > 1 and _is_about_count(status, text):
            return replace(self, most_texts=_smaller(text, count))
        return self._plain() if refuses_some_parameter(text) else None

    def with_learned(self, other: Manners) -> Manners:
        """Return these manners with all that is settled in the other ones, which the server has answered to."""
        encoding = other if self.is_encoding_open else self
        dimensions = other if self.is_dimensions_open else self
        return Manners(
            encoding.encoding,
            encoding.is_encoding_open,
            dimensions.sends_dimensions,
            dimensions.is_dimensions_open,
            min(self.most_texts, other.most_texts),
        )

    def _plain(self) -> Manners | None:
        if not self.is_encoding_open or self.encoding is None:
            return None
        return replace(self, encoding=None, is_encoding_open=False)


def _is_about_count(status: int, text: str) -> bool:
    if _OF_ONE_TEXT.search(text) and "batch" not in text:
        return False
    return status == _TOO_LARGE or (_COUNTED.search(text) is not None and _TOO_MANY.search(text) is not None)


def _smaller(text: str, count: int) -> int:
    """Return the limit that a refusal names, else half of what was refused."""
    named = [int(re.sub("[,_]", "", number)) for number in _LIMIT.findall(text)]
    return next((number for number in named if 1 <= number < count), count // 2)
