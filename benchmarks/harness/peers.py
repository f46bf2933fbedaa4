"""Peers whose libraries may not be installed, and RouteLLM, which several subjects stand beside."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class PeerMissingError(Exception):
    """A peer's library is not installed."""


@contextmanager
def needing(packages: str) -> Iterator[None]:
    """Turn an ImportError inside the block into a PeerMissingError that names what has to be installed."""
    try:
        yield
    except ImportError as error:
        raise PeerMissingError(f"needs {packages} ({error.name} is not installed)") from error


def those_present(builders: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Build contenders by name. Return those that could be built, and for the others why not."""
    found: dict[str, T] = {}
    missing: dict[str, str] = {}
    for name, build in builders.items():
        try:
            found[name] = build()
        except PeerMissingError as error:  # noqa: PERF203 - a handful, once
            missing[name] = str(error)
    return found, missing


def import_routellm(name: str) -> Any:
    """Import one of RouteLLM's modules. Raises PeerMissingError."""
    # Its import builds an OpenAI client, which wants a key, and LiteLLM, which would fetch a price list.
    needed = {"OPENAI_API_KEY": "unused", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    before = {key: os.environ.get(key) for key in needed}
    os.environ.update(needed)
    try:
        with needing("routellm 0.2.0 and what it requires"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"routellm.{name}")
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value
