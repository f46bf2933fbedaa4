"""Models by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from routellm_fast.errors import UnknownModelError


def index_of(name: str, names: Sequence[str], lacks: str) -> int:
    """Return where a model stands among names.

    Args:
        name: The model.
        names: Those that there are.
        lacks: What the router has not for an unknown one, e.g. "no vector for".

    Raises:
        UnknownModelError: It is none of them; the text names similar ones.
    """
    try:
        return list(names).index(name)
    except ValueError:
        close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UnknownModelError(
            f"the router has {lacks} the model {name!r}, only {len(names)} others.{hint} To send prompts to a model "
            "that it was not trained on, keep the scoring pair and name the models when loading."
        ) from None
