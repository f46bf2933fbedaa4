"""Why the compiled extension could not be imported, in words that say what to do."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def explained(error: ImportError) -> str:
    """Return what to tell the user of an ImportError that importing the extension raised."""
    return f"{_cause(error)} The import said: {error}"


def _cause(error: ImportError) -> str:
    if "subinterpreter" in str(error):  # by Python itself, or by csrc/python/bindings.cpp
        return (
            "routellm-fast runs in the main interpreter of a process only, and this is a sub-interpreter. Under "
            "mod_wsgi, say 'WSGIApplicationGroup %{GLOBAL}'; elsewhere, use a process in place of the sub-interpreter."
        )
    if error.name != "routellm_fast._core" or not isinstance(error, ModuleNotFoundError):
        return (
            "the compiled extension of routellm-fast is there but cannot be loaded. Install the package anew for this "
            "Python and this machine."
        )
    tree = _PACKAGE.parent
    if (tree / "pyproject.toml").is_file() and (tree / "csrc").is_dir():
        return (
            f"Python found the source tree {tree} in place of the installed package, and the tree holds no compiled "
            "extension. Start Python in another directory, or install the tree with 'pip install --editable .'."
        )
    others = sorted(file.name for pattern in ("_core.*.so", "_core.*.pyd") for file in _PACKAGE.glob(pattern))
    if others:
        return (
            f"the compiled extension of routellm-fast in {_PACKAGE} was built for another Python or machine "
            f"({', '.join(others)}). Install the package anew with the Python that imports it."
        )
    return f"the compiled extension of routellm-fast is missing from {_PACKAGE}. Install the package anew."
