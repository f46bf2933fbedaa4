"""Python programs in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_TESTS = Path(__file__).parent


def run_python(
    *arguments: str, stdin: str | bytes = "", environment: Mapping[str, str] | None = None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of this process, outside the checkout, with tests/ importable."""
    path = os.pathsep.join(filter(None, [str(_TESTS), os.environ.get("PYTHONPATH", "")]))
    variables = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    content = stdin.encode() if isinstance(stdin, str) else stdin
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, *arguments],
            input=content,
            capture_output=True,
            env=variables,
            cwd=folder,
            timeout=timeout_s,
        )
    return subprocess.CompletedProcess(run.args, run.returncode, run.stdout.decode(), run.stderr.decode())


def run_cli(
    *arguments: str, stdin: str | bytes = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `routellm-fast`."""
    return run_python("-m", "routellm_fast", *arguments, stdin=stdin, environment=environment)


def assert_refused(run: subprocess.CompletedProcess[str], *words: Sequence[str] | str) -> None:
    """Exit status 2 and one clear line, never a traceback."""
    assert run.returncode == 2, (run.returncode, run.stderr)
    assert "Traceback" not in run.stderr
    assert run.stderr.startswith("routellm-fast: ")
    assert run.stderr.count("\n") == 1
    for word in words:
        assert word in run.stderr, run.stderr
