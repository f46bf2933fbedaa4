"""The leakage guard: prompts that must not come in, because they are evaluated on or held out elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from routellm_fast.data import evaluation_groups, group_of
from routellm_fast.data.contamination import evaluation_files
from routellm_fast.tables import LeftOut, read_table


def forbidden_groups(paths: Sequence[Path], *, left_out: LeftOut | None = None) -> frozenset[str]:
    """Return the groups of all prompts of these sets, by their text and by the names that a `prompt_group` gives.

    Args:
        paths: Files or folders; see data.evaluation_groups.
        left_out: Takes rows that cannot be read; None raises. See tables.LeftOut.

    Raises:
        DataError: One is missing, damaged, or has no prompts.
    """
    groups = evaluation_groups(paths, left_out=left_out)
    # Damaged lines are left out here as they were there, and counted once.
    again = None if left_out is None else LeftOut(strict=left_out.strict)
    named = {
        str(row.values["prompt_group"])
        for path in paths
        for file in evaluation_files(path)
        for row in read_table(file, left_out=again)
        if not row.is_empty("prompt_group")
    }
    return groups | named


def tainted_groups(rows: Iterable[tuple[str, str]], forbidden: Set[str]) -> frozenset[str]:
    """Return those groups of rows, each a prompt and its group, of which any prompt is forbidden."""
    if not forbidden:
        return frozenset()
    return frozenset(group for prompt, group in rows if group in forbidden or group_of(prompt) in forbidden)
