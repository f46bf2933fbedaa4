"""The suites of pytest-benchmark, run in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness.places import REPOSITORY


def run_suites(*, is_quick: bool) -> tuple[int, list[dict[str, Any]]]:
    """Run every bench_*.py. Return pytest's exit code and one entry a benchmark."""
    suites = sorted(str(path) for path in (REPOSITORY / "benchmarks").rglob("bench_*.py"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suites.json"
        seconds, rounds = (0.02, 1) if is_quick else (0.5, 5)
        command = [sys.executable, "-m", "pytest", *suites, "-q", "-p", "no:cacheprovider", "--benchmark-enable"]
        command += ["--benchmark-disable-gc", "--benchmark-warmup=on"]
        command += [f"--benchmark-max-time={seconds}", f"--benchmark-min-rounds={rounds}"]
        command += [f"--benchmark-json={path}", f"--benchmark-storage=file://{folder}"]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.stderr.write(done.stdout)
        found = json.loads(path.read_text(encoding="utf-8"))["benchmarks"] if path.is_file() else []
    return done.returncode, [
        {
            "group": entry["group"],
            "name": entry["name"],
            "median_us": entry["stats"]["median"] * 1e6,
            "iqr_us": entry["stats"]["iqr"] * 1e6,
            "min_us": entry["stats"]["min"] * 1e6,
            "mean_us": entry["stats"]["mean"] * 1e6,
            "rounds": entry["stats"]["rounds"],
            "iterations": entry["stats"]["iterations"],
            "extra_info": entry["extra_info"],
        }
        for entry in found
    ]
