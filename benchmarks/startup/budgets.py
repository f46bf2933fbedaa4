"""What importing the package may cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.harness.budgets import Budget
from benchmarks.harness.reports import Report
from benchmarks.harness.tables import number


def _loaded(report: Report) -> str:
    heavy = report["import"]["heavy_modules_loaded"]
    return f"loads {', '.join(heavy)}" if heavy else "loads no heavy module"


def _import(report: Report, program: str = "import routellm_fast", stage: str = "import") -> dict[str, float]:
    found: dict[str, float] = report["import"]["programs"][program][stage]
    return found


def _numpy_import(key: str, unit: str) -> Callable[[Report], str]:
    return lambda report: f"numpy alone {number(_import(report, 'import numpy')[key])} {unit}"


STARTUP_BUDGETS: Final = (
    Budget("import routellm_fast", "ms", 100, None, lambda r: _import(r)["ms"], _numpy_import("ms", "ms"), _loaded),
    Budget(
        "resident after import",
        "MB",
        60,
        None,
        lambda r: _import(r)["resident_mb"],
        _numpy_import("resident_mb", "MB"),
        _loaded,
    ),
)
