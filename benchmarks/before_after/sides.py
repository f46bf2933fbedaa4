"""The two versions as processes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from benchmarks.harness import environment
from benchmarks.harness.command import CannotRunError

BEFORE: Final = "before"
AFTER: Final = "after"
_CHILD: Final = Path(__file__).with_name("child.py")


class Side:
    """A process of one version; a context manager that ends it."""

    def __init__(self, name: str, python: Path) -> None:
        """Start it.

        Args:
            name: BEFORE or AFTER, for messages.
            python: An interpreter that has routellm_fast installed.

        Raises:
            CannotRunError: There is no such interpreter.
        """
        self._name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        try:
            self._process = subprocess.Popen(
                # Isolated: neither this repository's modules nor the caller's are on its path.
                [python, "-I", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment.pinned(os.environ),
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._errors.close()
            raise CannotRunError(f"--{name} {python} cannot be started: {error.strerror}; expected a Python") from error

    def ask(self, **request: Any) -> Any:
        """Return the answer to one request of child.py. Raises CannotRunError with what the process said last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise CannotRunError(f"the Python of --{self._name} ended at {request['do']!r}: {last}")
        return json.loads(line)

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()
