"""Splits prompts into groups, and chooses which groups are held out."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def group_of(prompt: str) -> str:
    """Return the group of a prompt whose row names none.

    Prompts that differ only in case, spacing and Unicode form have the same group.
    """
    plain = " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def joined_groups(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the group of each distinct prompt, in the order of their first rows.

    Rows are (prompt, group), with the group that the source gave. Two groups that share a prompt, or prompts that
    differ only in case, spacing and Unicode form, become one group: otherwise one prompt could be trained on under one
    group and held out under another. The joined group has the smallest of the names.
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
    """Return an (n,) mask of the entries whose group is held out.

    A hash of the group's name and the seed decides, so that adding data moves no group, and a prompt never has battles
    on both sides.

    Args:
        groups: n group names.
        share: Expected share of groups held out, in [0, 1).
        seed: Another seed holds out other groups; in [0, 2^63).
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


def numbered(groups: Sequence[str]) -> tuple[int, NDArray[np.int64]]:
    """Return how many different groups there are, and the number of each entry's: 0, 1, ... as they first appear."""
    index = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return len(index), np.array([index[name] for name in groups], dtype=np.int64)
