"""Preference data from files: prompts, battles, golden labels; names of models, and splits by prompt group."""

from __future__ import annotations

from routellm_fast.data.battles import Battle, Battles, balanced, capped, read_battles, to_arrays
from routellm_fast.data.digest import file_digest
from routellm_fast.data.golden import Labelled, gaps, pairs, read_golden
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import Prompts, read_prompts
from routellm_fast.data.split import group_of, held_out

__all__ = [
    "Battle",
    "Battles",
    "Labelled",
    "Prompts",
    "balanced",
    "capped",
    "file_digest",
    "gaps",
    "group_of",
    "held_out",
    "known_aliases",
    "pairs",
    "read_battles",
    "read_golden",
    "read_prompts",
    "to_arrays",
]
