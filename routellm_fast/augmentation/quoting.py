"""Texts of others within a question, between tags that these texts cannot write."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

# Part of what makes judgements comparable: a change of it changes what judges are asked.
FORM: Final = "<{name}-{code}>\n{text}\n</{name}-{code}>"
_CODE_BYTES: Final = 8


def code_for(context: Any, texts: Mapping[str, str | None]) -> str:
    """Return the code of the tags around these texts: 16 hexadecimal digits that none of them contains.

    It is a digest of all the texts, so the same question always has the same code. Whoever writes one of them cannot
    put the code into it: each change of the text changes the code, even for somebody who knows all the other texts.

    Args:
        context: What else the question depends on, as a JSON value.
        texts: The texts by name; None for one that is missing.
    """
    # Letters and digits of other widths and cases are looked for, too: a judge may read them as the same.
    plain = [unicodedata.normalize("NFKC", text).casefold() for text in texts.values() if text is not None]
    attempt = 0
    while True:
        content = json.dumps([context, dict(texts), attempt], sort_keys=True).encode()
        code = hashlib.blake2b(content, digest_size=_CODE_BYTES).hexdigest()
        if not any(code in text for text in plain):
            return code
        attempt += 1


def quoted(name: str, text: str, code: str) -> str:
    """Return a text between an opening and a closing tag that carry the code."""
    return FORM.format(name=name, code=code, text=text)


def filled(template: str, values: Mapping[str, str]) -> str:
    """Fill placeholders such as {prompt} in one pass: what is filled in may itself look like one."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in values)
    return re.sub(pattern, lambda match: values[match[0][1:-1]], template)
