"""One name for each model, whatever a data set calls it."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from routellm_fast.errors import UnknownModelError

_SHOWN_NAMES: Final = 20


@cache
def known_aliases() -> Mapping[str, str]:
    """Return a mapping from each other spelling of a model's name to its name, read from `model_names.csv`.

    Names are those of RouteLLM's `MODEL_IDS` where it has one, except for Mixtral, which has the name that RouteLLM's
    benchmarks and controller use. Only spellings of one and the same model are joined: a base model, another release or
    another size keeps its own name.
    """
    content = resources.files("routellm_fast.data").joinpath("model_names.csv").read_text(encoding="utf-8")
    return MappingProxyType({row["alias"]: row["name"] for row in csv.DictReader(io.StringIO(content))})


def spellings_of(model: str, names: Iterable[str]) -> list[str]:
    """Return which of these names mean a model: its own name where that is among them, else its other spellings.

    More than one spelling in the answer means that the caller cannot tell which of them is meant.
    """
    found = list(names)
    if model in found:
        return [model]
    aliases = known_aliases()
    known = aliases.get(model, model)
    return [name for name in found if aliases.get(name, name) == known]


def check_known(wanted: Collection[str], known: Collection[str], *, what: str = "battle") -> None:
    """Raise UnknownModelError, which names similar models, where the data has no battle, or else, of a wanted model."""
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.4)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            names = sorted(known)
            more = f" … ({len(names):,} in all)" if len(names) > _SHOWN_NAMES else ""
            listed = ", ".join(names[:_SHOWN_NAMES])
            raise UnknownModelError(f"the data has no {what} of {name!r}, only of: {listed}{more}.{hint}")
