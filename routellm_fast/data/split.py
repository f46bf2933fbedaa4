"""Splits prompts into groups, and chooses which groups are held out."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def plain(prompt: str) -> str:
    """Return a prompt in lower case and one Unicode form, with one space between words."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def group_of(prompt: str) -> str:
    """Return the group of a prompt whose row names none.

    Prompts that differ only in case, spacing and Unicode form have the same group.
    """
    return hashlib.blake2b(plain(prompt).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


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


def held_out(groups: Sequence[str], share: float, *, seed: int, use: str = "") -> NDArray[np.bool_]:
    """Return an (n,) mask of the entries whose group is held out.

    A hash of the group's name and the seed decides, so that adding data moves no group, and a prompt never has battles
    on both sides.

    Args:
        groups: n group names.
        share: Expected share of groups held out, in [0, 1).
        seed: Another seed holds out other groups; in [0, 2^63).
        use: See marks.
    """
    return np.asarray(marks(groups, seed=seed, use=use) < np.uint64(int(share * 2.0**64)))


def marks(names: Sequence[str], *, seed: int, use: str = "") -> NDArray[np.uint64]:
    """Return an (n,) number for each name, drawn from all of [0, 2^64) by a hash: equal names have equal ones.

    Args:
        names: n names.
        seed: Another seed draws other numbers; in [0, 2^63).
        use: What is decided by the numbers, at most 16 bytes of ASCII. Each use draws numbers of its own: were two
            decisions made by the same ones, the names that the first takes would not be a random part for the second.
    """
    key, person = seed.to_bytes(8, "little"), use.encode("ascii")
    found = {
        name: int.from_bytes(
            hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=key, person=person).digest(),
            "little",
        )
        for name in set(names)
    }
    return np.array([found[name] for name in names], dtype=np.uint64)


def numbered(groups: Sequence[str]) -> tuple[int, NDArray[np.int64]]:
    """Return how many different groups there are, and the number of each entry's: 0, 1, ... as they first appear."""
    index = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return len(index), np.array([index[name] for name in groups], dtype=np.int64)
