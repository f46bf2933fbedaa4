"""Imports of optional libraries, with an error that says how to install the one that is missing."""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, Final

from routellm_fast.errors import MissingExtraError

_PACKAGE: Final = "routellm-fast"
# What the Python package index itself does not hold.
_INDEXES: Final = {"tensorrt": "--extra-index-url https://pypi.nvidia.com "}
_ONNX_RUNTIMES: Final = frozenset({
    "onnxruntime", "onnxruntime-directml", "onnxruntime-gpu", "onnxruntime-migraphx", "onnxruntime-openvino",
    "onnxruntime-rocm", "onnxruntime-training",
})  # fmt: skip


def require(module: str, extra: str) -> Any:
    """Import and return an optional module. Raises MissingExtraError, which names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is installed but lacks one of its own dependencies is a different fault.
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise MissingExtraError(f"{module} is not installed. {how_to_install(extra)}") from error


def is_installed(module: str) -> bool:
    """Whether an optional module can be imported, without importing it."""
    import importlib.util  # few ask

    return importlib.util.find_spec(module) is not None


def how_to_install(extra: str) -> str:
    """Return sentences with commands that install an extra: from a checkout, and anywhere its packages alone."""
    import shlex  # here, as below, since only errors need it

    index = _INDEXES.get(extra, "")
    sentence = f"In a checkout of routellm-fast, pip install {index}'.[{extra}]' installs the extra {extra!r}"
    packages = extra_packages(extra)
    if packages:
        sentence += f"; its packages alone: pip install {index}{shlex.join(packages)}"
    if any(package.startswith("onnxruntime") for package in packages):
        sentence += ". Only one of onnxruntime and onnxruntime-gpu may be installed: remove the other first"
    return sentence + "."


def extra_packages(extra: str) -> list[str]:
    """Return the requirements that an extra adds, e.g. ["torch>=2.3"]; none where the package has no metadata."""
    import re
    from importlib import metadata

    try:
        required = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # a source tree on the path
        return []
    parts = [entry.partition(";") for entry in required]
    return [name.strip() for name, _, marker in parts if re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", marker)]


@functools.cache
def onnx_runtimes() -> tuple[str, ...]:
    """Return the installed packages that bring the module onnxruntime; several overwrite one another's files."""
    from importlib import metadata

    installed = {(entry.metadata["Name"] or "").lower() for entry in metadata.distributions()}
    return tuple(sorted(installed & _ONNX_RUNTIMES))


@contextmanager
def quiet_transformers(transformers: Any) -> Iterator[None]:
    """Keep the library transformers from printing progress bars and warnings; its settings are restored afterwards.

    Args:
        transformers: The imported module `transformers`.
    """
    logging = transformers.utils.logging
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # No setting turns off the progress bar of its GGUF reader.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
