"""What takes more memory than there is: asked before, and named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from routellm_fast.errors import ArtifactMemoryError


@contextmanager
def enough_memory(path: str | Path) -> Iterator[None]:
    """Name the file or directory whose reading takes more memory than there is. Raises ArtifactMemoryError then."""
    try:
        yield
    except ArtifactMemoryError:
        raise
    except MemoryError as error:
        raise ArtifactMemoryError(
            f"{path} needs more memory than this process can get. Allow it more, or load something smaller."
        ) from error


def ask_for(byte_count: int) -> None:
    """Raise MemoryError where this much memory cannot be had now.

    For the moment before a library is called that ends the process in such a case, as those written in Rust do.
    """
    np.empty(byte_count, dtype=np.uint8)
