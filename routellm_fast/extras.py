"""Optional dependencies that name themselves when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from routellm_fast.errors import MissingExtraError


def require(module: str, extra: str) -> Any:
    """Import an optional module, or raise MissingExtraError naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is there but lacks one of its own dependencies is another fault.
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise MissingExtraError(
            f"{module} is not installed. Install it with: pip install 'routellm-fast[{extra}]'"
        ) from error
