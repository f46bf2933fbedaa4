"""Held-out prompts, chosen by group."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def group_of(prompt: str) -> str:
    """Return the group of a prompt that names none: prompts equal but for case, spacing and Unicode form share it."""
    plain = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def held_out(groups: Sequence[str], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Mark the members of about this share of the groups.

    A group is in or out by a hash of its name and the seed, not by chance over what else is there: adding data moves no
    group, and one prompt never has battles on both sides.

    Args:
        groups: n group names.
        share: Expected share of groups held out, in [0, 1).
        seed: Draws another set; in [0, 2^63).
    """
    key = seed.to_bytes(8, "little")
    limit = int(share * 2.0**64)
    marks = {
        group: int.from_bytes(
            hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest(), "little"
        )
        < limit
        for group in set(groups)
    }
    return np.array([marks[group] for group in groups], dtype=np.bool_)
