"""The leakage guard: prompts that must not come in, because they are evaluated on or held out elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from routellm_fast.data import evaluation_groups, group_of
from routellm_fast.data.contamination import evaluation_files
from routellm_fast.tables import read_table


def forbidden_groups(paths: Sequence[Path]) -> frozenset[str]:
    """Return the groups of all prompts of these sets, by their text and by the names that a `prompt_group` gives.

    Args:
        paths: Files or folders; see data.evaluation_groups.

    Raises:
        DataError: One is missing, damaged, or has no prompts.
    """
    named = {
        str(row.values["prompt_group"])
        for path in paths
        for file in evaluation_files(path)
        for row in read_table(file)
        if row.values.get("prompt_group")
    }
    return evaluation_groups(paths) | named


def tainted_groups(rows: Iterable[tuple[str, str]], forbidden: Set[str]) -> frozenset[str]:
    """Return those groups of rows, each a prompt and its group, of which any prompt is forbidden."""
    if not forbidden:
        return frozenset()
    return frozenset(group for prompt, group in rows if group in forbidden or group_of(prompt) in forbidden)
