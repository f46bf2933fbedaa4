"""The prompts that are routed: real ones where they are on this machine, else the repository's examples."""

from __future__ import annotations

import csv
import gzip
import sys
from dataclasses import dataclass, field
from typing import Final

from benchmarks.harness.places import REPOSITORY, data_folder

_EXAMPLES: Final = REPOSITORY / "examples" / "prompts.txt"


class DataMissingError(Exception):
    """The real prompts are not on this machine."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts, and what a report says of them.

    Attributes:
        texts: The prompts.
        source: Where they come from.
        missing: Why they are not the real ones, by what is missing; empty where they are.
    """

    texts: list[str]
    source: str
    missing: dict[str, str] = field(default_factory=dict)


def example_prompts() -> list[str]:
    """Return the prompts that come with the repository."""
    return _EXAMPLES.read_text(encoding="utf-8").splitlines()


def natural_prompts() -> list[str]:
    """Return 7,504 real prompts, which are no part of the repository. Raises DataMissingError."""
    path = data_folder() / "prompts" / "natural_prompts.csv.gz"
    if not path.is_file():
        raise DataMissingError(f"needs the real prompts at {path} (ROUTELLM_FAST_DATA names another data folder)")
    csv.field_size_limit(sys.maxsize)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [row["prompt"] for row in csv.DictReader(file)]


def prompts_at_hand() -> Prompts:
    """Return the real prompts, or the repository's examples where there are none."""
    try:
        return Prompts(natural_prompts(), "natural prompts")
    except DataMissingError as error:
        return Prompts(example_prompts(), "examples/prompts.txt", {"natural prompts": str(error)})
