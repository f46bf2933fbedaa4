"""What a long run says while it works."""

from __future__ import annotations

import sys


def say(what: str) -> None:
    """Write what comes next to standard error."""
    sys.stderr.write(f"… {what}\n")
    sys.stderr.flush()
