"""Python programs in a process of their own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
# Whoever starts the tests in the background may have them ignore ^C, and so their children.
_MINDS_INTERRUPTS = """\
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("routellm_fast", run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def started_cli(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process that can be interrupted; killed at the end where it has not ended by itself."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MINDS_INTERRUPTS, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run_python(
    *arguments: str, stdin: str | bytes = "", environment: Mapping[str, str] | None = None, timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter of this process, outside the checkout, with tests.support importable."""
    path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]))
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
    return subprocess.CompletedProcess(
        run.args, run.returncode, run.stdout.decode(), without_progress(run.stderr.decode())
    )


def without_progress(errors: str) -> str:
    """Leave out the lines by which a long run says what it does: on a busy machine any run may be one."""
    return re.sub(r"(?m)^routellm-fast: .* \(\d+ s\)\n", "", errors)


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
