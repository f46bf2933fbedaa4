"""sw_ranking's cost and memory against the number of battles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import environment
from benchmarks.harness.places import REPOSITORY
from benchmarks.harness.progress import say
from benchmarks.similarity.effort import Effort

# Larger banks are not written to disk: loading one maps it, which costs the same at any size.
MOST_BATTLES_SAVED: Final = 160_000


def by_battles(effort: Effort) -> list[dict[str, Any]]:
    """Return one entry for each number of battles and precision.

    Each number of battles gets a process of its own, so that its memory is its own; a router that is loaded from a
    directory gets another one.
    """
    found = []
    for count in effort.battle_counts:
        say(f"{count:,} battles")
        with tempfile.TemporaryDirectory() as folder:
            target = [folder] if count <= MOST_BATTLES_SAVED else []
            for entry in _run("build", str(count), str(effort.queries), *target):
                saved = Path(folder, entry["precision"])
                found.append(entry | {"loaded": _run("load", str(saved)) if saved.is_dir() else None})
    return found


def _run(*arguments: str) -> Any:
    command = [sys.executable, "-m", "benchmarks.similarity.process", *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment.pinned(os.environ), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)
