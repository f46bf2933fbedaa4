"""One name for each model, whatever a data set calls it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType


def known_aliases() -> Mapping[str, str]:
    """Return alias -> name from `model_names.csv`.

    The names are RouteLLM's `MODEL_IDS` where it has one, but for Mixtral, which goes by the name that RouteLLM's
    benchmarks and controller use. Only spellings of one and the same model are joined: a base model, another release or
    another size keeps its own name.
    """
    content = resources.files("routellm_fast.data").joinpath("model_names.csv").read_text(encoding="utf-8")
    return MappingProxyType({row["alias"]: row["name"] for row in csv.DictReader(io.StringIO(content))})
