"""Which natural language a text is in, by the library py3langid.

It works offline and takes some tenths of a millisecond a text at most. Its model has 4.6 MB on disk, and takes half a
second and 75 MB of memory once it is loaded: only where a rule asks for a language.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from routellm_fast import extras

# More text makes the answer no surer, only later.
_MOST_CHARS: Final = 1_000
_LEAST_PROBABILITY: Final = 0.5
# What the library tells apart and ISO 639-1 has under one code: spoken Arabic of Egypt and Morocco, Cantonese, Wu.
_CODES: Final = {"ary": "ar", "arz": "ar", "wuu": "zh", "yue": "zh"}


def known_languages() -> frozenset[str]:
    """Return the ISO 639-1 codes that `language_of` tells apart. Loads the library's model, in about half a second."""
    return frozenset(label for label in _identifier().labels if len(label) == 2)


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, or "" where it is not clear.

    The first 1,000 characters are read. A language must have a probability of one half at least: a word or two such as
    "ok" or "Hallo", numbers, formulas and most program code are no language. Of a text in two languages it is the one
    that more of the text is in.
    """
    found: dict[str, float] = {}
    for label, probability in _identifier().rank(text[:_MOST_CHARS]):
        code = _CODES.get(label, label)
        found[code] = found.get(code, 0.0) + probability
    best = max(found, key=found.__getitem__)
    return best if len(best) == 2 and found[best] >= _LEAST_PROBABILITY else ""


@functools.cache
def _identifier() -> Any:
    library = extras.require("py3langid.langid", "serve")
    return library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True)
