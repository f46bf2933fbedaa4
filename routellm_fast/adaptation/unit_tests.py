"""Runs the code of an answer and the tests of a reference in a process of its own.

This is NO SANDBOX. The process gets limits of time, memory, size of files, open files and number of processes, an
empty folder to stand in, no input, and no variables of the environment that could hold a key. But it runs with the
user's own rights: it can read the user's files, write where the user may write, and use the network. Whoever does not
trust the code that the models write runs this in a container or a virtual machine without network.

The code and then the tests are run in one module, `answer`; `from answer import f` works too. Then come the functions
that the tests define whose names begin with `test`, and their classes of `unittest`. All must pass. Code that ends the
process itself has not passed.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 10.0
LONGEST_TIMEOUT_S: Final = 3600.0
_MEMORY_BYTES: Final = 1 << 30
_FILE_BYTES: Final = 1 << 24
_OPEN_FILES: Final = 64
_MORE_PROCESSES: Final = 64
_FENCE: Final = re.compile(
    r"^[ \t]{0,16}(?P<fence>`{3,8}|~{3,8})[ \t]*(?P<language>[\w+#.\-]{0,32})[^\n]*\n(?P<code>[\s\S]*?)"
    r"(?:^[ \t]{0,16}(?P=fence)[ \t]*$|\Z)",
    re.MULTILINE,
)
_PYTHON: Final = ("", "python", "python3", "py", "py3")
_DEFINES: Final = re.compile(r"^(?:async )?(?:def|class) (?!test|Test)", re.MULTILINE)
# Runs in the process of its own. The exit status that says "passed" is drawn anew each time, and is not to be seen in
# the arguments: code that ends the process with a status of its own is not taken for code that passes.
_RUN: Final = r"""
import json, os, resource, sys, types
job = json.load(sys.stdin)
for name, value in job["limits"].items():
    kind = getattr(resource, name, None)
    if kind is None:
        continue
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):  # a system that does not know this limit
        pass
def run(code, tests, passed):
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    space = module.__dict__
    exec(compile(code, "answer.py", "exec"), space)
    before = dict(space)
    exec(compile(tests, "tests.py", "exec"), space)
    made = [value for name, value in space.items() if name not in before or before[name] is not value]
    unittest = sys.modules.get("unittest")
    for value in made:
        if isinstance(value, types.FunctionType) and value.__name__.startswith("test"):
            value()
        elif unittest and isinstance(value, type) and issubclass(value, unittest.TestCase):
            result = unittest.TestResult()
            unittest.defaultTestLoader.loadTestsFromTestCase(value).run(result)
            if not result.wasSuccessful():
                return
    os._exit(passed)
try:
    run(job.pop("code"), job.pop("tests"), job.pop("passed"))
except BaseException:
    pass
os._exit(1)
"""


def code_of(answer: str) -> str | None:
    """Return the code of an answer; None where it has none.

    Of several blocks of Python it is the last one that defines a function or class which is no test, else the last one.
    An answer without any block is code as a whole.
    """
    blocks = list(_FENCE.finditer(answer))
    if not blocks:
        return answer
    codes = [textwrap.dedent(block["code"]) for block in blocks if block["language"].lower() in _PYTHON]
    defining = [code for code in codes if _DEFINES.search(code)]
    chosen = defining or codes
    return chosen[-1] if chosen else None


def problem_of(tests: str) -> str | None:
    """Return in words why a text cannot be run as tests; None where it can."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(tests, "tests", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"it is no Python: {error}"
    return None if tests.strip() else "it holds no tests"


def passes(code: str, tests: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Tell whether code passes tests. The text of this module says how they are run, and that this is no sandbox.

    Args:
        code: The code.
        tests: Code that raises where the other code is wrong.
        timeout_s: Seconds that code and tests may take together.
    """
    passed = 64 + secrets.randbelow(60)
    limits = {
        "RLIMIT_CPU": math.ceil(timeout_s) + 1,
        "RLIMIT_AS": _MEMORY_BYTES,
        "RLIMIT_FSIZE": _FILE_BYTES,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_CORE": 0,
    }
    if (running := _running_processes()) is not None:
        limits["RLIMIT_NPROC"] = running + _MORE_PROCESSES
    job = json.dumps({"code": code, "tests": tests, "passed": passed, "limits": limits}).encode()
    with tempfile.TemporaryDirectory(prefix="routellm-fast-tests-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _RUN],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.communicate(job, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # What it has started ends with it, unless that left the session.
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
    return process.returncode == passed


def _environment(folder: str) -> dict[str, str]:
    names = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", **one_thread, **kept}


def _running_processes() -> int | None:
    """Return how many processes and threads the machine runs; None where the system does not tell.

    A limit on processes counts all of the user's, so it must lie above those that are there.
    """
    try:
        return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None
