"""Held-out prompts, chosen by group."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def group_of(prompt: str) -> str:
    """Return the group of a prompt that names none: prompts equal but for case, spacing and Unicode form share it."""
    plain = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def joined_groups(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the group of each distinct prompt, in the order of their first rows.

    Rows are prompts with the groups that their sources gave them. Where two groups have a prompt in common, by the same
    text or one equal but for case, spacing and Unicode form, they are one: else a prompt could be trained on that is
    held out under another name. One group of several goes by the least of their names.
    """
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while (above := parent.setdefault(group, group)) != group:
            parent[group] = parent[above]
            group = above
        return group

    own: dict[str, str] = {}
    by_text: dict[str, str] = {}
    for prompt, group in rows:
        if prompt not in own:
            own[prompt] = group
            first = by_text.setdefault(group_of(prompt), group)
        else:
            first = own[prompt]
        if first != group:
            low, high = sorted((root(first), root(group)))
            parent[high] = low
    return {prompt: root(group) for prompt, group in own.items()}


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
