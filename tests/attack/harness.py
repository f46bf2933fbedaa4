"""What an attack is: something that is tried many times, and what must hold each time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


class NotPossibleError(Exception):
    """An attack cannot be tried here, for the reason in the text. The tests skip it then, and `make attack` fails."""


@dataclass(slots=True)
class Campaign:
    """One run of an attack.

    Attributes:
        count: How often to try.
        rng: Source of all chance, so that a run can be repeated.
        folder: An empty folder to work in.
        tally: What happened, by what the page is to call it, and how often. `run` fills it.
    """

    count: int
    rng: random.Random
    folder: Path
    tally: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Attack:
    """Something that is tried many times. A module of this folder that is named on_*.py defines one or more as ATTACKS.

    Attributes:
        name: A few words, unique, e.g. "saving, under kills".
        tried: What is done each time, one sentence.
        held: What must hold each time, one sentence.
        unit: What is counted, in the plural, e.g. "kills".
        whole: How often `make attack` tries.
        brief: How often the tests try: a few seconds' worth. 0 where even once takes longer: only
            `make attack` runs it.
        run: Tries `campaign.count` times. Raises AssertionError where something did not hold, and says what.
    """

    name: str
    tried: str
    held: str
    unit: str
    whole: int
    brief: int
    run: Callable[[Campaign], None]
