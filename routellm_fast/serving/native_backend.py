"""Finds this package's C++ backend for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from routellm_fast import _core
from routellm_fast.errors import UnsupportedExportError

BACKEND: Final = "routellm"
LIBRARY: Final = "libtriton_routellm.so"


def triton_backend_directory() -> Path:
    """Return the folder that `tritonserver --backend-directory` takes: it holds routellm/libtriton_routellm.so.

    Raises:
        UnsupportedExportError: This build of the package has no such library; it exists on Linux only.
    """
    # Beside the extension: an editable installation keeps what is compiled apart from the Python files.
    folder = Path(_core.__file__).parent / "triton_backends"
    if not (folder / BACKEND / LIBRARY).is_file():
        raise UnsupportedExportError(
            f"this build of routellm-fast has no Triton backend ({folder / BACKEND / LIBRARY} is missing): install it "
            "on Linux, with the CMake option ROUTELLM_FAST_TRITON left ON"
        )
    return folder
