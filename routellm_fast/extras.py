"""Imports of optional libraries, with an error that says how to install the one that is missing."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from routellm_fast.errors import MissingExtraError


def require(module: str, extra: str) -> Any:
    """Import and return an optional module. Raises MissingExtraError, which names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is installed but lacks one of its own dependencies is a different fault.
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise MissingExtraError(
            f"{module} is not installed. Install it with: pip install 'routellm-fast[{extra}]'"
        ) from error


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
