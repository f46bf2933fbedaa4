"""Runs the example.py of an exported folder, as somebody without this package does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def by_example(out: Path, prompts: list[str], *, tokenizers: bool = True) -> list[float]:
    """What example.py of an exported folder prints, run as it stands in another directory without this package."""
    hidden = "" if tokenizers else "import sys; sys.modules['tokenizers'] = None; "
    code = (
        f"import sys; sys.modules['routellm_fast'] = None; {hidden}sys.argv[0] = {str(out / 'example.py')!r}; "
        f"sys.path.insert(0, {str(out)!r}); "
        "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, *prompts]
    run = subprocess.run(command, capture_output=True, text=True, cwd=out.parent, check=False)
    assert run.returncode == 0, run.stderr
    return [float(line.split()[0]) for line in run.stdout.splitlines()]


def argument(prompt: str) -> str:
    return prompt.replace("\0", "")  # no process takes it as an argument
