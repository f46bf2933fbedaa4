"""Trained routers in other formats. Ships as routellm_fast.export; import it by that name only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._exportable import Exportable, exportable
    from ._metadata import router_digest
    from ._onnx_export import export_onnx
    from ._precision import bound_of
    from ._report import ExportReport
    from ._triton_export import TritonExport, export_triton
    from ._verification import ExportedRouter, verify
    from .tensorrt_export import check_plan, export_tensorrt
    from .triton_preparation import PreparationModel

_ON_FIRST_USE = {
    "ExportReport": "_report",
    "Exportable": "_exportable",
    "ExportedRouter": "_verification",
    "PreparationModel": "triton_preparation",
    "TritonExport": "_triton_export",
    "bound_of": "_precision",
    "check_plan": "tensorrt_export",
    "export_onnx": "_onnx_export",
    "export_tensorrt": "tensorrt_export",
    "export_triton": "_triton_export",
    "exportable": "_exportable",
    "router_digest": "_metadata",
    "verify": "_verification",
}

__all__ = [
    "ExportReport",
    "Exportable",
    "ExportedRouter",
    "PreparationModel",
    "TritonExport",
    "bound_of",
    "check_plan",
    "export_onnx",
    "export_tensorrt",
    "export_triton",
    "exportable",
    "router_digest",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ON_FIRST_USE[name]}"), name)
    globals()[name] = value
    return value
