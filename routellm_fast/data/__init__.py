"""Reads preference data: prompts, battles and golden labels. Also names of models, and splits by prompt group."""

from __future__ import annotations

from routellm_fast.data.battles import Battle, Battles, balanced, capped, models_of, read_battles, to_arrays
from routellm_fast.data.centring import centred
from routellm_fast.data.contamination import evaluation_groups, overlaps
from routellm_fast.data.counts import Counts
from routellm_fast.data.digest import file_digest
from routellm_fast.data.golden import Labelled, gaps, pairs, read_golden, read_golden_files
from routellm_fast.data.names import known_aliases
from routellm_fast.data.prompts import Prompts, read_prompts
from routellm_fast.data.split import group_of, held_out, joined_groups

__all__ = [
    "Battle",
    "Battles",
    "Counts",
    "Labelled",
    "Prompts",
    "balanced",
    "capped",
    "centred",
    "evaluation_groups",
    "file_digest",
    "gaps",
    "group_of",
    "held_out",
    "joined_groups",
    "known_aliases",
    "models_of",
    "overlaps",
    "pairs",
    "read_battles",
    "read_golden",
    "read_golden_files",
    "read_prompts",
    "to_arrays",
]
