"""Optional dependencies that name themselves when they are missing."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
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


@contextmanager
def quiet_transformers(transformers: Any) -> Iterator[None]:
    """Keep the library transformers from writing bars and advice to a terminal that is ours; its settings are put back.

    Args:
        transformers: The module.
    """
    logging = transformers.utils.logging
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The bar of its GGUF reader heeds no setting.
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
