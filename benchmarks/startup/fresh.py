"""Measurements that need an interpreter of their own: what importing and loading cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

# What `import routellm_fast` must not load: each costs more than the whole package.
HEAVY_MODULES: Final = (
    "aiohttp",
    "datasets",
    "fastapi",
    "httpx",
    "matplotlib",
    "model2vec",
    "onnxruntime",
    "openai",
    "pandas",
    "pydantic",
    "requests",
    "rich",
    "scipy",
    "sklearn",
    "sqlite3",
    "tokenizers",
    "torch",
    "transformers",
    "typer",
)

_PROGRAM: Final = """
import json, sys, time
def memory(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ":"))
stages = []
def stage(name, start):
    stages.append({{"stage": name, "ms": (time.perf_counter_ns() - start) / 1e6,
                    "resident_kib": memory("VmRSS"), "peak_kib": memory("VmHWM")}})
start = time.perf_counter_ns()
stage("interpreter", start)
{program}
heavy = sorted(set({heavy!r}) & set(sys.modules))
print(json.dumps({{"stages": stages, "heavy": heavy, "modules": len(sys.modules)}}))
"""

PROGRAMS: Final = {
    "nothing": "",
    "import numpy": "start = time.perf_counter_ns(); import numpy; stage('import', start)",
    "import routellm_fast": "start = time.perf_counter_ns(); import routellm_fast; stage('import', start)",
    "load_router": """
start = time.perf_counter_ns(); import routellm_fast; stage('import', start)
start = time.perf_counter_ns(); router = routellm_fast.load_router(); stage('load', start)
start = time.perf_counter_ns(); decision = router.route("hello"); stage('first route', start)
assert decision.model in router.model_pair
""",
}


def run(name: str) -> dict[str, Any]:
    """Run one of PROGRAMS in a fresh interpreter and return its stages: milliseconds and KiB resident."""
    return run_program(PROGRAMS[name])


def run_program(program: str, *, python: Path | str = sys.executable) -> dict[str, Any]:
    """Run a program that calls `stage(name, start)`; `wall_ms` is from the start of the process to its end."""
    whole = _PROGRAM.format(program=program, heavy=HEAVY_MODULES)
    # Elsewhere, so that the package found is the installed one, whatever the caller's folder holds.
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter_ns()
        done = subprocess.run([python, "-c", whole], cwd=folder, capture_output=True, text=True, check=True)
        wall_ms = (time.perf_counter_ns() - start) / 1e6
    return {**json.loads(done.stdout.splitlines()[-1]), "wall_ms": wall_ms}
