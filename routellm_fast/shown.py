r"""Text from outside, as it may be shown: on a terminal, on a page, in Markdown, and in JSON that people read.

Names of models, files and data sets, prompts, and what servers answer may hold characters that move a cursor, ring a
bell, turn the direction of writing or take no room. Wherever this package prints text or writes a page, such characters
are written as Python writes them in a string, e.g. `\x1b` or `\u202e`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

# What Markdown, or HTML within it, would take for more than itself. An underscore within a word stands for itself.
_MARKDOWN: Final = re.compile(r"[\\`*|<~]|&(?=#?\w+;)|\](?=[(\[:])|(?<!\w)_|_(?!\w)|^[#>]")
_ENTITIES: Final = {"<": "&lt;", "&": "&amp;"}


def shown(text: str) -> str:
    """Return the text with an escape in the place of each character that does not print.

    Characters that do not print are those for which `str.isprintable` is false: control characters, line breaks and
    tabs among them, marks that turn the direction of writing, characters without width, and every space but the plain
    one. The result is one line.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def in_markdown(text: str) -> str:
    """Return the text so that Markdown shows it as it is: one line, without markup, links or HTML."""
    return _MARKDOWN.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), shown(" ".join(text.split())))


def in_code(text: str) -> str:
    """Return the text as Markdown's code: between more backticks than stand side by side within it."""
    line = shown(" ".join(text.split()))
    marks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    # Markdown takes one space off each end.
    return f"{marks} {line} {marks}" if len(marks) > 1 else f"{marks}{line}{marks}"


def as_json(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Return JSON in which letters of all scripts stand as they are, and characters that do not print as escapes.

    Whoever parses it gets the same text back, except that a lone surrogate, which UTF-8 cannot hold, becomes "?".

    Args:
        value: What json.dumps takes.
        indent: Number of spaces of each level, with line breaks; None for one line.
        sort_keys: Whether keys stand in their alphabetical order.

    Raises:
        TypeError: The value holds something that JSON cannot.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys)
    lines = text.encode("utf-8", "replace").decode().split("\n")
    return "\n".join(line if line.isprintable() else "".join(map(_escaped_in_json, line)) for line in lines)


def _escaped(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def _escaped_in_json(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
