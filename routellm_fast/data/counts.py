"""What became of a source's rows: how many were read, kept and left out, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counts:
    """Filled by the readers of `routellm_fast.data`.

    Attributes:
        rows: Rows in the source.
        battles: Battles that were kept. A row of golden labels makes several.
        left_out: Rows or, where a row makes several, battles that were not, by reason.
        licenses: Rows used by license, where the source states one.
        judges: Battles read by judge, where the source names one.
    """

    rows: int = 0
    battles: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count what is left out for a reason."""
        if count:
            self.left_out[reason] += count

    def reasons(self) -> str:
        """Return what was left out as a phrase, e.g. "12 tie, 3 license"; "" for nothing."""
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.left_out.items()))

    def to_json(self) -> dict[str, Any]:
        """Return the form that metrics hold."""
        return {
            "rows": self.rows,
            "battles": self.battles,
            "left_out": dict(sorted(self.left_out.items())),
            "licenses": dict(sorted(self.licenses.items())),
            "judges": dict(sorted(self.judges.items())),
        }
