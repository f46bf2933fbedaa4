from __future__ import annotations

from benchmarks.harness import environment

IS_PINNED = environment.apply()

import pytest  # noqa: E402

from benchmarks.harness.machine import describe  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    # pyproject.toml's default collects tests only.
    config.addinivalue_line("python_files", "bench_*.py")
    config.addinivalue_line("python_functions", "bench_*")


def pytest_report_header() -> list[str]:
    found = describe()
    blas = ", ".join(f"{pool['internal_api']} {pool['architecture']}" for pool in found["blas"]) or "unknown BLAS"
    lines = [f"{found['cpu']}, {found['cores']} cores; kernels {found['isa']}; {blas}, one thread"]
    if not IS_PINNED:
        lines.append("numpy was loaded before its threads could be limited: figures of peers may be wrong")
    return lines
