"""What became of a source's rows: how many were read, kept and left out, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

# The reason of rows that break the layout, where a run goes on without them.
UNREADABLE: Final = "that cannot be read"


@dataclass(slots=True)
class Counts:
    """Counts of rows and battles, which the readers of `routellm_fast.data` fill.

    Attributes:
        rows: Rows in the source.
        battles: Battles that were kept. A row of golden labels makes several.
        left_out: Rows left out, or battles where a row makes several, by reason.
        licenses: Number of rows used, by the license that the source states.
        judges: Number of battles read, by the judge that the source names.
        models: Names of the models that have a column of scores in golden labels, also of those that were not chosen.
    """

    rows: int = 0
    battles: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)
    models: set[str] = field(default_factory=set)

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Add to the count of what was left out for this reason."""
        if count:
            self.left_out[reason] += count

    def reasons(self) -> str:
        """Return what was left out as a phrase, e.g. "12 tie, 3 of another license"; "" for nothing."""
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.left_out.items()))

    def to_json(self) -> dict[str, Any]:
        """Return the counts as an object for JSON, as training's metrics hold it."""
        return {
            "rows": self.rows,
            "battles": self.battles,
            "left_out": dict(sorted(self.left_out.items())),
            "licenses": dict(sorted(self.licenses.items())),
            "judges": dict(sorted(self.judges.items())),
        }
