"""What a figure was measured on and with: the machine line of a report."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy  # noqa: F401 - loads the BLAS that is described below

from benchmarks.harness.places import REPOSITORY
from routellm_fast import _core

PACKAGES: Final = (
    "routellm-fast",
    "numpy",
    "safetensors",
    "model2vec",
    "tokenizers",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "routellm",
    "scikit-learn",
    "faiss-cpu",
    "usearch",
    "aiohttp",
    "httptools",
    "starlette",
    "uvicorn",
    "uvloop",
    "pytest-benchmark",
)


def describe() -> dict[str, Any]:
    """Return everything about machine, build and versions that a reader needs to judge a figure."""
    cpu = _cpu()
    return {
        "date": datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y-%m-%d"),
        "cpu": cpu["model name"],
        "cpu_id": f"family {cpu['cpu family']} model {cpu['model']} stepping {cpu['stepping']}",
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "isa": _core.active_isa(),
        "isa_available": _core.supported_isas(),
        "isa_forced": os.environ.get("ROUTELLM_FAST_ISA"),
        "blas": _blas(),
        "compiler": _compiler(),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def slug(machine: dict[str, Any]) -> str:
    """Return a file name's stem: date and CPU."""
    cpu = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']} {machine['cpu_id']}".lower())
    short = cpu.replace("family-", "").replace("model-", "").replace("stepping-", "")
    return f"{machine['date']}-{short.strip('-')}"


def line(machine: dict[str, Any]) -> str:
    """Return machine, build and versions in one sentence."""
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    blas = ", ".join(sorted({f"{pool['internal_api']} {pool['architecture']}" for pool in machine["blas"]}))
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    forced = " (forced)" if machine["isa_forced"] else ""
    return (
        f"{machine['cpu']} ({machine['cpu_id']}), {machine['cores']} cores, {caches}, {machine['memory_gib']} GiB; "
        f"kernels {machine['isa']}{forced} of {', '.join(machine['isa_available'])}; BLAS kernels {blas or 'unknown'}; "
        f"{machine['compiler'] or 'compiler unknown'}; commit {machine['commit'] or 'unknown'}; "
        f"Python {machine['python']}, {versions}"
    )


def loads() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def _cpu() -> dict[str, str]:
    found = dict.fromkeys(("model name", "cpu family", "model", "stepping"), "unknown")
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return found | {"model name": platform.machine()}
    for line in text.split("\n\n", maxsplit=1)[0].splitlines():
        key, _, value = line.partition(":")
        if key.strip() in found:
            found[key.strip()] = value.strip()
    return found


def _caches() -> dict[str, str]:
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        caches[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = size
    return caches


def _blas() -> list[dict[str, Any]]:
    try:
        import threadpoolctl
    except ImportError:
        return []
    keys = ("internal_api", "architecture", "version", "num_threads")
    return [
        {key: pool.get(key) for key in keys} for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"
    ]


def _compiler() -> str | None:
    # Compilers sign the .comment section of what they build.
    signs = re.findall(rb"GCC: \([^)\0]*\) [\d.]+|clang version [\d.]+", Path(_core.__file__).read_bytes())
    return ", ".join(sorted({sign.decode() for sign in signs})) or None


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "csrc", "routellm_fast", "CMakeLists.txt", "pyproject.toml")
        return git("rev-parse", "--short=12", "HEAD") + (" with local changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
