"""Patterns that rules look for in texts, matched by RE2: its time grows with the text's length and no faster.

Python's own `re` tries again from each place where a match failed, so that a text of a few dozen characters can keep it
busy for years with an expression such as `(a+)+$`.
"""

from __future__ import annotations

from typing import Any, Final

import re2

from routellm_fast.errors import InvalidArgumentError

# What an expression may take once it is compiled. The worst that fits takes some tenths of a second for 10,000
# characters; what people write takes microseconds.
_MOST_BYTES: Final = 1 << 20
_MOST_SHOWN: Final = 200


class Pattern:
    """Says of texts whether they hold something. Thread-safe."""

    __slots__ = ("_holds",)

    def __init__(self, expression: str, *, is_whole: bool) -> None:
        """Compile an expression in RE2's syntax.

        Args:
            expression: Perl's syntax without look-around and back-references, which need time without bound.
            is_whole: Whether it must match all of a text, not only a part.

        Raises:
            InvalidArgumentError: The expression cannot be compiled.
        """
        options = re2.Options()
        options.max_mem, options.log_errors, options.dot_nl = _MOST_BYTES, False, is_whole
        try:
            compiled = re2.compile(expression, options)
        except re2.error as error:
            reason = error.args[0].decode("utf-8", "replace")[:_MOST_SHOWN]
            raise InvalidArgumentError(
                f"no regular expression that RE2 takes: {reason}. It has no look-around and no back-references, since "
                "these can take any time"
            ) from None
        except UnicodeEncodeError:
            raise InvalidArgumentError("no regular expression: it holds half of a surrogate pair") from None
        self._holds: Any = compiled.fullmatch if is_whole else compiled.search

    def holds(self, text: str) -> bool:
        """Whether the pattern is in the text."""
        # JSON can hold halves of surrogate pairs, which are no characters: they become question marks.
        return self._holds(text.encode("utf-8", "replace")) is not None


def regex(expression: str) -> Pattern:
    """Return a pattern that is found anywhere in a text. Raises InvalidArgumentError."""
    return Pattern(expression, is_whole=False)


def wildcard(text: str) -> Pattern:
    """Return a pattern that matches a whole text; `*` stands for any characters. Raises InvalidArgumentError."""
    return Pattern(".*".join(re2.escape(part) for part in text.split("*")), is_whole=True)
